import process from "node:process";
import { RateLimiterError } from "../../mod.ts";
import { now } from "./clock.ts";
import { loadLimiter, UnsuitableLimiter } from "./limiter.ts";
import { type DemoOptions, HELP, parseCommandLine } from "./options.ts";
import { runInProcesses, UnableProcess } from "./processes.ts";
import { createRecorder } from "./records.ts";
import { type RunEvents, runHere } from "./run.ts";
import { createScreen, type Screen, thisTerminal } from "./screen.ts";
import { judgementOf, type View } from "./words.ts";

const FRAME_MS = 100;
/** Two interruptions within this time count as one. */
const SAME_KEY_MS = 500;

const EXIT = { held: 0, notHeld: 1, failed: 1, wrongOption: 2, interrupted: 130 } as const;

/** Runs the demo and resolves to its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const commandLine = parseCommandLine(args);
  switch (commandLine.kind) {
    case "help":
      process.stdout.write(HELP);
      return EXIT.held;
    case "invalid":
      process.stderr.write(`${commandLine.message} See --help.\n`);
      return EXIT.wrongOption;
    case "run": {
      const { options } = commandLine;
      const screen = createScreen(thisTerminal());
      try {
        return await runDemo(options, args, screen);
      } catch (error) {
        screen.restore();
        if (!isExpected(error)) throw error;
        process.stderr.write(`${error.message}\n`);
        if (error instanceof UnableProcess) process.stderr.write(HOW_TO_START);
        return EXIT.failed;
      }
    }
  }
}

const HOW_TO_START = `
A server with JetStream on this machine is one of these away:
  docker run -p 4222:4222 nats -js
  nats-server -js
`;

/** Errors that say what to do. Any other error is a defect, and its stack says more. */
function isExpected(error: unknown): error is Error {
  return error instanceof RateLimiterError || error instanceof UnableProcess || error instanceof UnsuitableLimiter;
}

async function runDemo(options: DemoOptions, args: readonly string[], screen: Screen): Promise<number> {
  const recorder = createRecorder(options.processes);
  const warnings: string[] = [];
  const run = crypto.randomUUID();
  await using demo = await loadLimiter({ options, run, onWarning: (text) => warnings.push(text) });
  let startAt: number | undefined;
  let interruptedAt: number | undefined;

  const view = (): View => ({
    options,
    promised: demo.promised,
    limiter: demo.limiter.getConfig().id,
    store: demo.store,
    records: recorder,
    startAt: startAt ?? now(),
    elapsedMs: startAt === undefined
      ? 0
      : Math.min(Math.max(0, (interruptedAt ?? now()) - startAt), options.seconds * 1_000),
    interrupted: interruptedAt !== undefined,
    warnings,
  });
  const events: RunEvents = {
    onStart: (moment) => startAt = moment,
    onReport: (index, report) => recorder.add(index, report),
    onWarning: (text) => warnings.push(text),
    onEnded: (index) => recorder.ended(index),
  };

  const interruption = new AbortController();
  const interrupt = () => {
    // A user who asks twice does not want to wait for anything; but some parents also pass on what the terminal sends.
    if (interruptedAt !== undefined && now() - interruptedAt > SAME_KEY_MS) process.exit(EXIT.interrupted);
    if (interruptedAt !== undefined) return;
    interruptedAt = now();
    interruption.abort();
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt).on("exit", screen.restore);
  const frames = setInterval(() => startAt !== undefined && screen.update(view()), FRAME_MS);
  try {
    const { signal } = interruption;
    if (options.url === undefined) await runHere({ options, limiter: demo.limiter, signal }, events);
    else await runInProcesses({ options, args: [run, ...args], signal }, events);
  } finally {
    clearInterval(frames);
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt).off("exit", screen.restore);
  }

  const last = view();
  screen.finish(last);
  if (last.interrupted) return EXIT.interrupted;
  const { held, admitted } = judgementOf(last);
  return held && admitted > 0 ? EXIT.held : EXIT.notHeld;
}
