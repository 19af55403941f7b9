// A process with callers: opens its contestants, says so, and runs once for each line that it reads. It ends when its
// input does.
import process from "node:process";
import { createInterface } from "node:readline";
import { openContestant } from "./contestants.ts";
import type { Job, Order } from "./job.ts";
import { keysOf, runCalls } from "./run_calls.ts";

const job: Job = JSON.parse(process.argv[2] ?? "{}");
const contestants = [];
for (const name of job.contestants) contestants.push(await openContestant(name, job));
// the cost of a new key is measured elsewhere
if (!job.timed) {
  for (const { call } of contestants) await Promise.all(keysOf(job).map((key) => call(key)));
}
process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const order: Order = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await runCalls(contestants, job, order))}\n`);
}
for (const contestant of contestants) await contestant.close();
