import type { Parts } from "./decide.ts";
import { type Holders, renewPermits } from "./rules/concurrency.ts";
import type { RuleState } from "./rules/rule.ts";

/** The permits of a concurrency limit that this process holds on one key, and when to say so in the store. */
export interface Holdings {
  /** When the store has to hear what is held; `Infinity` if nothing is. */
  readonly renewAt: number;
  readonly size: number;
  hold(permit: number, now: number): void;
  /** The permit is not held any more. To write that is up to the caller. */
  drop(permit: number): void;
  dropAll(): void;
  /** The store may count permits that are not held, as it is not known what was written: it has to hear at `at`. */
  doubt(now: number, at: number): void;
  /** The states of the rules after the store has heard, if that is due. `time` is `now` since the epoch. */
  renewed(parts: Parts, time: number, now: number): Parts;
  /** What {@link Holdings.renewed} returned at `plannedAt` has been written. */
  written(plannedAt: number, now: number): void;
  /** The store failed: it is tried again at `at`, for as long as it can matter. */
  failed(now: number, at: number): void;
}

/** A third of the lease: so two renewals can be lost. */
const RENEWALS_PER_LEASE = 3;

/** No holdings yet, of the process `owner` in the rule at `index` (-1: there is none). */
export function createHoldings(index: number, owner: string, leaseMs: number): Holdings {
  const held = new Set<number>();
  let renewAt = Infinity;
  let doubtfulUntil = -Infinity;
  const next = (now: number) => held.size > 0 ? now + leaseMs / RENEWALS_PER_LEASE : Infinity;
  return {
    get renewAt() {
      return renewAt;
    },
    get size() {
      return held.size;
    },
    hold(permit, now) {
      held.add(permit);
      renewAt = Math.min(renewAt, next(now));
    },
    drop(permit) {
      held.delete(permit);
      if (held.size === 0 && doubtfulUntil === -Infinity) renewAt = Infinity;
    },
    dropAll: () => held.clear(),
    doubt(now, at) {
      if (index < 0) return;
      doubtfulUntil = now + leaseMs;
      renewAt = Math.min(renewAt, at);
    },
    renewed(parts, time, now) {
      if (now < renewAt) return parts;
      const holders = renewPermits(parts[index] as Holders, owner, [...held], time + leaseMs); // the state of that rule
      return holders === parts[index] ? parts : parts.map((part, i): RuleState => i === index ? holders : part);
    },
    written(plannedAt, now) {
      if (plannedAt < renewAt) return;
      doubtfulUntil = -Infinity;
      renewAt = next(now);
    },
    failed(now, at) {
      renewAt = held.size > 0 || now < doubtfulUntil ? at : Infinity;
    },
  };
}
