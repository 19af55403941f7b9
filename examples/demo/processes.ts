import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { now } from "./clock.ts";
import { decodeMessage } from "./messages.ts";
import type { DemoOptions } from "./options.ts";
import type { RunEvents } from "./run.ts";

/** The time between the order to start and the start, so that everybody is there by then. */
const HEAD_START_MS = 100;
/** How long a process may take to end once it should. */
const PATIENCE_MS = 4_000;

interface Child {
  /** Resolves when the process waits for the start, to `undefined`, or when it cannot take part, to the reason. */
  readonly ready: Promise<string | undefined>;
  /** Resolves when the process is gone and everything it said was heard. */
  readonly gone: Promise<void>;
  startAt(moment: number): void;
  /** Asks the process to end, and ends it if it does not. */
  stop(): void;
  kill(): void;
}

/** One of the processes cannot take part. */
export class UnableProcess extends Error {
  override name = "UnableProcess";
}

/**
 * Runs the callers in separate processes. None of these outlives this call, nor this process.
 *
 * @throws {UnableProcess} if one of them cannot reach the store.
 */
export async function runInProcesses(
  { options, args, signal }: {
    readonly options: DemoOptions;
    readonly args: readonly string[];
    readonly signal: AbortSignal;
  },
  events: RunEvents,
): Promise<void> {
  const children = Array.from({ length: options.processes }, (_, index) => launch(index, args, events));
  const stop = () => children.forEach((child) => child.stop());
  const kill = () => children.forEach((child) => child.kill());
  signal.addEventListener("abort", stop, { once: true });
  process.on("exit", kill);
  const gone = Promise.all(children.map((child) => child.gone));
  try {
    const refusals = (await Promise.all(children.map((child) => child.ready))).filter((text) => text !== undefined);
    if (refusals[0] !== undefined && !signal.aborted) throw new UnableProcess(refusals[0]);
    const startAt = now() + HEAD_START_MS;
    events.onStart(startAt);
    for (const child of children) child.startAt(startAt);
    const late = setTimeout(stop, HEAD_START_MS + options.seconds * 1_000 + PATIENCE_MS);
    await gone;
    clearTimeout(late);
  } finally {
    stop();
    await gone;
    signal.removeEventListener("abort", stop);
    process.off("exit", kill);
  }
}

function launch(index: number, args: readonly string[], { onReport, onWarning, onEnded }: RunEvents): Child {
  const child = spawn(process.execPath, [...runtimeArguments(), ...args], { stdio: ["pipe", "pipe", "pipe"] });
  const { promise: ready, resolve: answer } = Promise.withResolvers<string | undefined>();
  let told = false;
  let stopped = false;
  let complaint = "";
  let timer: ReturnType<typeof setTimeout> | undefined;

  createInterface({ input: child.stdout }).on("line", (line) => {
    const message = decodeMessage(line);
    switch (message?.kind) {
      case "ready":
        return answer(undefined);
      case "unable":
        told = true;
        onWarning(`Process ${index + 1}: ${message.text}`);
        return answer(message.text);
      case "warning":
        return onWarning(message.text);
      case "report":
        return onReport(index, message.report);
      case "done":
        told = true;
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => complaint += text);
  child.stdin.on("error", () => {}); // it is gone, and 'close' says so

  const gone = new Promise<void>((resolve) => {
    const end = (how: string) => {
      clearTimeout(timer);
      onEnded(index);
      answer(lastLine(complaint) ?? `A process could not be started (${how}).`);
      if (!told && !stopped) onWarning(`Process ${index + 1} ended early (${lastLine(complaint) ?? how}).`);
      resolve();
    };
    child.on("error", (error) => end(error.message));
    child.on("close", (code, endedBy) => end(endedBy ?? `exit code ${code}`));
  });
  return {
    ready,
    gone,
    startAt: (moment) => child.stdin.write(`${moment}\n`),
    stop() {
      if (stopped || hasExited(child)) return;
      stopped = true;
      child.stdin.end();
      timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    },
    kill: () => child.kill("SIGKILL"),
  };
}

function hasExited({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/** How to run the other file with this runtime; Bun and Node also need the options that they were started with. */
function runtimeArguments(): string[] {
  const worker = fileURLToPath(new URL("./worker.ts", import.meta.url));
  return "Deno" in globalThis ? ["run", "-A", worker] : [...process.execArgv, worker];
}

function lastLine(text: string): string | undefined {
  return text.trim().split("\n").findLast((line) => line.trim() !== "");
}
