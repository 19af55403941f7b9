/** An operation that the limiter admitted. */
export interface Admission {
  /** When it started, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** How long it had waited, in milliseconds. */
  readonly waitedMs: number;
}

/** What else happened in a process, counted from its start. */
export interface Counts {
  /** Callers that have asked and have not been answered yet. */
  readonly waiting: number;
  /** Requests without a timeout for which there was no slot. */
  readonly refusedAtOnce: number;
  /** Requests for which there was no slot within their timeout. */
  readonly refusedInTime: number;
  /** Requests that the store failed. */
  readonly failed: number;
  /** Compare-and-sets that lost their race against another process. */
  readonly casFailures: number;
}

/** What a process has to report: all counts, and the admissions since its last report. */
export interface Report {
  readonly admissions: readonly Admission[];
  readonly counts: Counts;
}

export const NO_COUNTS: Counts = { waiting: 0, refusedAtOnce: 0, refusedInTime: 0, failed: 0, casFailures: 0 };

/** Everything that is known about a run. */
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
  /** The process is gone, so nobody waits in it any more. */
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
