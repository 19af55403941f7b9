import { markWaiting, renewPermits } from "../rules/concurrency.ts";
import type { Rule } from "../rules/rule.ts";
import { type Batch, decideBatch, type Insight, reachOf, type Request, type Undo, withoutUndone } from "./batch.ts";
import { limitsConcurrency, withPermits } from "./decide.ts";
import type { State } from "./state.ts";

/** What one process wants of a key, to be decided as a whole. */
export interface Work<R extends Request = Request> {
  /** The process, as the holder of permits. */
  readonly owner: string;
  /** How long its permits are held without being renewed, in milliseconds. */
  readonly leaseMs: number;
  /** The grants to it that are to be taken back. */
  readonly undos: readonly Undo[];
  /** The permits that it holds, if the store has to be told now. */
  readonly held: readonly number[] | undefined;
  /** The requests, in order of arrival. */
  readonly requests: readonly R[];
  /** The number of the permit of its first grant; the others follow. */
  readonly firstPermit: number;
  /** When the first of its requests began to wait, as a moment. */
  readonly since: number;
  /** Whether others are to be told that it waits, if the first of its requests has to wait for a permit. */
  readonly marks: boolean;
  /** Whether others have been told that it waits: it keeps its place until all its requests are dealt with. */
  readonly isMarked: boolean;
  /** Whether the first request was passed over so often that its slot may be farther away than others reserve. */
  readonly isOverdue: boolean;
  /** How much later than the moment of decision a grant counts, in milliseconds. */
  readonly lead: number;
  /** How much later than its earliest start a grant for a future moment counts, in milliseconds. */
  readonly slack: number;
  /** How much earlier than others it stops reserving, in milliseconds. */
  readonly restraint: number;
}

/** The terms on which work is decided. */
export interface Terms {
  readonly now: number;
  /** The moment up to which slots are granted ahead. */
  readonly horizon: number;
  /** Whether the state cannot have changed since it became known. */
  readonly isFresh: boolean;
}

/** How long others believe that somebody waits, unless they are told again. */
const MARK_MS = 3_000;

/**
 * Decides the work in this state. Only the arguments count, so whoever knows them comes to the same result: a process
 * that had its work decided by another one is not told what it got, and finds that out itself. `insight` is what is
 * known about the grants in that state, for a process's own work.
 */
export function decideWork<R extends Request>(
  rules: readonly Rule[],
  state: State,
  work: Work<R>,
  { now, horizon, isFresh }: Terms,
  insight?: Insight,
): Batch<R> {
  const { owner, leaseMs, undos, held, requests, since, marks, isMarked, isOverdue, lead, slack, restraint } = work;
  const time = now - state.epoch;
  let permit = work.firstPermit;
  const { parts: undone, mixes } = withoutUndone(rules, state, undos, insight);
  const kept = held ? withPermits(rules, undone, (all) => renewPermits(all, owner, held, time + leaseMs)) : undone;
  const batch = decideBatch({
    rules,
    state: kept === state.parts ? state : { ...state, parts: kept },
    mixes,
    now,
    lead,
    slack,
    horizon: now + reachOf(rules, horizon - now, lead) - restraint,
    isFresh,
    isOverdue,
    requests,
    nextPermit: () => permit++,
    leaseMs,
  });
  const limit = rules.find(limitsConcurrency);
  if (!limit) return batch;
  const isLeft = batch.dealtWith < requests.length;
  // A process that has to wait for its time leaves the permits that are free until then to others.
  const waits = isLeft && batch.waitsFor !== "time" &&
    (isMarked || (marks && batch.waitsFor === "permit" && batch.dealtWith === 0));
  const mark = !waits ? undefined : batch.dealtWith === 0 ? since - state.epoch : time;
  const { limit: most } = limit.usage(limit.initial, time);
  const parts = withPermits(rules, batch.parts, (all) => markWaiting(all, owner, most, mark, time, MARK_MS));
  return { ...batch, parts };
}
