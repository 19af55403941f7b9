/** What a rule keeps between two decisions. All times in it are milliseconds since the state's epoch. */
export type RuleState = number | WindowLog | Permits;

/** The grants that still count, oldest first: the moment from which each counts no longer less the window, its cost. */
export type WindowLog = readonly number[];

/** A process that holds permits. All of them share one lease, as the process renews them together. */
export interface Holder {
  /** Who it is. */
  readonly owner: string;
  /** When the lease runs out. */
  readonly until: number;
  /** The numbers of its permits. */
  readonly permits: readonly number[];
}

/** A process that waits for permits which others hold. */
export interface Waiting {
  /** Who it is. */
  readonly owner: string;
  /** Since when it waits, or when it last got one. */
  readonly since: number;
  /** Until when the others shall believe that it still does. */
  readonly until: number;
}

/** Everybody who holds permits, and everybody who waits for some. */
export interface Permits {
  readonly holders: readonly Holder[];
  readonly waiting: readonly Waiting[];
}
