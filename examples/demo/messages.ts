import type { Admission, Report } from "./records.ts";

/**
 * What a process of the demo tells the one that started it: one line of JSON for each message, on its standard output.
 */
export type Message =
  /** It has reached its store, and waits for the start. */
  | { readonly kind: "ready" }
  /** It cannot take part. */
  | { readonly kind: "unable"; readonly text: string }
  /** Something that should be known, in words. */
  | { readonly kind: "warning"; readonly text: string }
  | { readonly kind: "report"; readonly report: Report }
  /** It has told everything. */
  | { readonly kind: "done" };

export function encodeMessage(message: Message): string {
  return JSON.stringify(message) + "\n";
}

/** Reads a line; `undefined` for half a line, which a process that was killed may leave. */
export function decodeMessage(line: string): Message | undefined {
  const value = parse(line);
  if (!isRecord(value)) return undefined;
  const { kind, text, report } = value;
  if (kind === "ready" || kind === "done") return { kind };
  if ((kind === "unable" || kind === "warning") && typeof text === "string") return { kind, text };
  const read = kind === "report" ? readReport(report) : undefined;
  return read && { kind: "report", report: read };
}

function readReport(value: unknown): Report | undefined {
  if (!isRecord(value) || !Array.isArray(value.admissions) || !isRecord(value.counts)) return undefined;
  const admissions: unknown[] = value.admissions;
  if (!admissions.every(isAdmission)) return undefined;
  const { waiting, refusedAtOnce, refusedInTime, failed, casFailures } = value.counts;
  if (!isNumber(waiting) || !isNumber(refusedAtOnce) || !isNumber(refusedInTime)) return undefined;
  if (!isNumber(failed) || !isNumber(casFailures)) return undefined;
  return { admissions, counts: { waiting, refusedAtOnce, refusedInTime, failed, casFailures } };
}

function isAdmission(value: unknown): value is Admission {
  return isRecord(value) && isNumber(value.at) && isNumber(value.waitedMs);
}

function isNumber(value: unknown): value is number {
  return typeof value === "number";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
