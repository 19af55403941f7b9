/**
 * What a rule keeps between two decisions. All times in it are milliseconds since the state's epoch.
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
 * The grants that still count, oldest first: the moment from which each counts no longer less the window, its cost.
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
 * A process that holds permits. All of them share one lease, as the process renews them together.
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
  /** Who it is. */
  readonly owner: string;
  /** When the lease runs out. */
  readonly until: number;
  /** The numbers of its permits. */
  readonly permits: readonly number[];
}

/**
 * A process that waits for permits which others hold.
 *
 * @example
 * ```ts
 * import type { Waiting } from "@ratesync/core/core";
 *
 * const waiting: Waiting = { owner: "process-8", since: 2_000, until: 5_000 };
 * console.log(waiting.owner); // "process-8"
 * ```
 */
export interface Waiting {
  /** Who it is. */
  readonly owner: string;
  /** Since when it waits, or when it last got one. */
  readonly since: number;
  /** Until when the others shall believe that it still does. */
  readonly until: number;
}

/**
 * Everybody who holds permits, and everybody who waits for some.
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
  /** Who holds some. */
  readonly holders: readonly Holder[];
  /** Who waits for some. */
  readonly waiting: readonly Waiting[];
}
