// One of several processes that share the limit. Its arguments are the run, followed by those of the demo. From its
// standard input it reads one line: when to start. When that input ends, because the process is to stop or because the
// demo is gone, this process ends too.
import process from "node:process";
import { createInterface } from "node:readline";
import { RateLimiterAcquisitionError } from "../../mod.ts";
import { runCallers } from "./callers.ts";
import { loadLimiter } from "./limiter.ts";
import { encodeMessage, type Message } from "./messages.ts";
import { parseCommandLine } from "./options.ts";

/** How long to wait for a server that does not answer while the connection is being closed. */
const PATIENCE_MS = 2_000;

const stopping = new AbortController();
let begin: (startAt: number) => void;
const start = new Promise<number>((resolve) => begin = resolve);

function tell(message: Message): void {
  process.stdout.write(encodeMessage(message));
}

function stop(): void {
  stopping.abort();
  begin(0);
  setTimeout(() => process.exit(1), PATIENCE_MS).unref();
}

/** Takes the store's own error, if there is one: it says why the limiter could not ask the store. */
function explain(error: unknown): string {
  const reason = error instanceof RateLimiterAcquisitionError ? error.cause ?? error : error;
  return reason instanceof Error ? reason.message : String(reason);
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => begin(Number(line)));
input.on("close", stop);
process.stdout.on("error", () => process.exit(1));
// Ctrl-C reaches all processes of the terminal: the demo decides what it means.
process.on("SIGINT", () => {});

try {
  const [run = "", ...args] = process.argv.slice(2);
  const commandLine = parseCommandLine(args);
  if (commandLine.kind !== "run") throw new TypeError("The demo was started with other arguments than its process.");
  const { options } = commandLine;
  await using demo = await loadLimiter({ options, run, onWarning: (text) => tell({ kind: "warning", text }) });
  await demo.limiter.initialize();
  tell({ kind: "ready" });
  await runCallers({
    limiter: demo.limiter,
    callers: options.callers,
    timeoutMs: options.timeout * 1_000,
    startAt: await start,
    durationMs: options.seconds * 1_000,
    signal: stopping.signal,
    onReport: (report) => tell({ kind: "report", report }),
  });
  tell({ kind: "done" });
} catch (error) {
  tell({ kind: "unable", text: explain(error) });
}
input.off("close", stop);
input.close();
process.stdin.destroy();
