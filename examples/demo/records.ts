/** An operation that the limiter admitted. */
export interface Admission {
  /** When it started, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** How long it had waited, in milliseconds. */
  readonly waitedMs: number;
}

/** What else happened in a process, counted from its start. */
export interface Counts {
  /** Callers that have asked and not heard yet. */
  readonly waiting: number;
  /** Requests without a timeout that there was no slot for. */
  readonly refusedAtOnce: number;
  /** Requests that there was no slot for within their timeout. */
  readonly refusedInTime: number;
  /** Requests that the store failed. */
  readonly failed: number;
  /** Compare-and-sets that lost their race against another process. */
  readonly casFailures: number;
}

/** What a process has to tell: all counts, and the admissions since its last report. */
export interface Report {
  readonly admissions: readonly Admission[];
  readonly counts: Counts;
}

export const NO_COUNTS: Counts = { waiting: 0, refusedAtOnce: 0, refusedInTime: 0, failed: 0, casFailures: 0 };

/** Everything that is known of a run. */
export interface Records {
  readonly processes: readonly ProcessRecord[];
}

export interface ProcessRecord {
  readonly admissions: readonly Admission[];
  readonly counts: Counts;
}

/** Collects the reports of all processes. */
export interface Recorder extends Records {
  add(process: number, report: Report): void;
  /** Nobody waits in a process that is gone. */
  ended(process: number): void;
}

export function createRecorder(processes: number): Recorder {
  const records = Array.from({ length: processes }, () => ({ admissions: new Array<Admission>(), counts: NO_COUNTS }));
  return {
    processes: records,
    add(process, { admissions, counts }) {
      const record = records[process]!;
      for (const admission of admissions) record.admissions.push(admission);
      record.counts = counts;
    },
    ended(process) {
      const record = records[process]!;
      record.counts = { ...record.counts, waiting: 0 };
    },
  };
}

export function allAdmissions({ processes }: Records): Admission[] {
  return processes.flatMap(({ admissions }) => admissions);
}

export function sumOfCounts({ processes }: Records): Counts {
  return processes.reduce((sum, { counts }) => ({
    waiting: sum.waiting + counts.waiting,
    refusedAtOnce: sum.refusedAtOnce + counts.refusedAtOnce,
    refusedInTime: sum.refusedInTime + counts.refusedInTime,
    failed: sum.failed + counts.failed,
    casFailures: sum.casFailures + counts.casFailures,
  }), NO_COUNTS);
}
