/**
 * What a rule keeps between decisions. All times in it are milliseconds since the state's epoch.
 *
 * @example
 * ```ts
 * import type { RuleState } from "@ratesync/core/core";
 *
 * const rate: RuleState = 1_200; // when the bucket is full again
 * const window: RuleState = [1_000, 2, 1_500, 1]; // 2 at 1,000 ms and 1 at 1,500 ms
 * console.log(rate, window);
 * ```
 */
export type RuleState = number | WindowLog | Permits;

/**
 * The grants that still count, oldest first, as pairs of numbers: the moment from which a grant no longer counts, less
 * the length of the window; and its cost.
 *
 * @example
 * ```ts
 * import type { WindowLog } from "@ratesync/core/core";
 *
 * const log: WindowLog = [1_000, 2, 1_500, 1];
 * console.log(log[1]); // 2: so much was granted for the moment 1,000
 * ```
 */
export type WindowLog = readonly number[];

/**
 * A process that holds permits. All of them share one lease, because the process renews them together.
 *
 * @example
 * ```ts
 * import type { Holder } from "@ratesync/core/core";
 *
 * const holder: Holder = { owner: "process-7", until: 10_000, permits: [1, 4] };
 * console.log(holder.permits.length); // 2
 * ```
 */
export interface Holder {
  /** The name of the process. */
  readonly owner: string;
  /** When the lease runs out. */
  readonly until: number;
  /** The numbers of its permits. */
  readonly permits: readonly number[];
}

/**
 * A process that waits for permits that others hold.
 *
 * @example
 * ```ts
 * import type { Waiting } from "@ratesync/core/core";
 *
 * const waiting: Waiting = { owner: "process-8", since: 2_000, until: 5_000, most: 10 };
 * console.log(waiting.owner); // "process-8"
 * ```
 */
export interface Waiting {
  /** The name of the process. */
  readonly owner: string;
  /** When it began to wait, or when it last got a permit. */
  readonly since: number;
  /** Until when the others are to believe that it still waits. */
  readonly until: number;
  /** How many permits there are, by its own limit. */
  readonly most: number;
}

/**
 * All processes that hold permits, and all that wait for some.
 *
 * @example
 * ```ts
 * import type { Permits } from "@ratesync/core/core";
 *
 * const permits: Permits = { holders: [{ owner: "process-7", until: 10_000, permits: [1] }], waiting: [] };
 * console.log(permits.holders.length); // 1
 * ```
 */
export interface Permits {
  /** The processes that hold permits. */
  readonly holders: readonly Holder[];
  /** The processes that wait for permits. */
  readonly waiting: readonly Waiting[];
}
