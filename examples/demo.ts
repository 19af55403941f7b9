// A rate limit at work, on the terminal: `deno task demo --help` says what it can do.
import process from "node:process";
import { main } from "./demo/main.ts";

// The reader of a pipe may have seen enough, as `head` does.
process.stdout.on("error", () => process.exit(0));
process.exitCode = await main(process.argv.slice(2));
