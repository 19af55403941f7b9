// Calls somebody else's API no faster than rate-sync.toml allows, however many calls there are at once.
//
//   deno run -A examples/acquire.ts
import process from "node:process";
import { fileURLToPath } from "node:url";
import { acquire, close, loadConfig } from "@ratesync/core";

await loadConfig(fileURLToPath(new URL("rate-sync.toml", import.meta.url)));

async function call(job: number): Promise<void> {
  await using permit = await acquire("partner-api");
  process.stdout.write(`job ${job} started after ${Math.round(permit.waitedMs)} ms\n`);
  // The request to the API goes here.
}

await Promise.all(Array.from({ length: 12 }, (_, job) => call(job + 1)));
await close();
