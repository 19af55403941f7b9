import { runCallers } from "./callers.ts";
import { now } from "./clock.ts";
import type { Limiter } from "../../mod.ts";
import type { DemoOptions } from "./options.ts";
import type { Report } from "./records.ts";

/** What a run reports while it goes on. Processes are numbered from 0. */
export interface RunEvents {
  /** All callers begin at this moment. */
  onStart(startAt: number): void;
  onReport(process: number, report: Report): void;
  onWarning(text: string): void;
  onEnded(process: number): void;
}

/** Runs the callers in this process. */
export async function runHere(
  { options, limiter, signal }: {
    readonly options: DemoOptions;
    readonly limiter: Limiter;
    readonly signal: AbortSignal;
  },
  { onStart, onReport, onEnded }: RunEvents,
): Promise<void> {
  await limiter.initialize();
  const startAt = now();
  onStart(startAt);
  await runCallers({
    limiter,
    callers: options.callers,
    timeoutMs: options.timeout * 1_000,
    startAt,
    durationMs: options.seconds * 1_000,
    signal,
    onReport: (report) => onReport(0, report),
  });
  onEnded(0);
}
