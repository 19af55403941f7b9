import type { Desk } from "../hand_over/desk.ts";
import type { HandOver } from "../hand_over/hand_over.ts";
import type { Rule } from "../rules/rule.ts";
import type { Gate } from "../store/gate.ts";
import type { Identity, LedgerContext } from "../store/ledger.ts";
import type { Lateness } from "../waiting/lateness.ts";
import type { LongWait } from "../waiting/long_wait.ts";
import type { Punctuality } from "../waiting/pacing.ts";
import type { ShortLease } from "../waiting/short_lease.ts";

/** What all cells of a limiter share. */
export interface CellContext extends LedgerContext, Punctuality {
  /** The writer, in all cells of a limiter without permits. */
  readonly identity: Identity;
  /** Makes an identity for one cell with permits alone: what a writer says that it holds is all that it holds. */
  readonly nextIdentity: () => Identity;
  readonly handOver: HandOver;
  /** Bounds how many keys are written at once. */
  readonly gate: Gate;
  /** Where other processes hand their work over. */
  readonly desk: Desk | undefined;
  /** A number from 0 to 1, so that pauses are not the same everywhere. */
  readonly random: () => number;
  /** Which of the rules limits concurrency, if one does. */
  readonly permitRule: number | undefined;
  /** How late timers are here. */
  readonly lateness: Lateness;
  /** The only rule, if that is a rate. */
  readonly soleRate: Rule<number> | undefined;
  /** Whether one of the rules limits a rate. */
  readonly limitsRate: boolean;
  /** How many slots may be taken before anybody asks for them. */
  readonly prefetch: number;
  readonly leaseMs: number;
  readonly timingMarginMs: number;
  /** How far the clocks of two processes may disagree, in milliseconds. */
  readonly clockErrorMs: number;
  readonly retryIntervalMs: number;
  readonly maxRetries: number;
  /** Called while somebody waits for a permit for a long time, now and then. */
  readonly onLongWait: (wait: LongWait) => void;
  /** Called when permits were lost because the lease is too short for the store. */
  readonly onShortLease: (lease: ShortLease) => void;
}
