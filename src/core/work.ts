import { type Batch, decideBatch, type Insight, reachOf, type Request, type Undo, withoutUndone } from "./batch.ts";
import type { Parts } from "./decide.ts";
import { markWaiting, renewPermits } from "./rules/concurrency.ts";
import type { Rule } from "./rules/rule.ts";
import type { Permits } from "./rules/states.ts";
import type { State } from "./state.ts";

/** What one process wants of a key, to be decided in one piece. */
export interface Work<R extends Request = Request> {
  /** The process, as holder of permits. */
  readonly owner: string;
  /** For how long its permits are held without being renewed, in milliseconds. */
  readonly leaseMs: number;
  /** What was granted to it and is to be taken back. */
  readonly undos: readonly Undo[];
  /** The permits that it holds, if the store has to hear of them now. */
  readonly held: readonly number[] | undefined;
  /** In order of arrival. */
  readonly requests: readonly R[];
  /** The number of the permit of its first grant; the others follow. */
  readonly firstPermit: number;
  /** Since when the first of its requests waits, as a moment. */
  readonly since: number;
  /** Whether others shall hear that it waits, should the first of its requests have to wait for a permit. */
  readonly marks: boolean;
  /** Whether others have heard that it waits: it keeps its place until everybody has been served. */
  readonly isMarked: boolean;
  /** Whether the first one was passed over so often that its slot may be farther away than others reserve. */
  readonly isOverdue: boolean;
  /** By how much a grant counts for later than it is decided, in milliseconds. */
  readonly lead: number;
  /** By how much a grant for a moment to come counts for later than it may start, in milliseconds. */
  readonly slack: number;
  /** How much earlier than others it stops to reserve, in milliseconds. */
  readonly restraint: number;
}

/** When and on what work is decided. */
export interface Terms {
  readonly now: number;
  /** How far ahead moments are granted, as a moment. */
  readonly horizon: number;
  /** Whether the state cannot have changed since it was known. */
  readonly isFresh: boolean;
}

/** For how long the others believe that somebody waits, unless it is said again. */
const MARK_MS = 3_000;

/**
 * Decides the work in this state. As nothing but the arguments counts, whoever knows them comes to the same end: so a
 * process that had its work decided by another one is not told what it got, and finds that out itself. `insight`: what is
 * known of the grants in that state, for one's own work.
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
  });
  if (!rules.some(({ kind }) => kind === "concurrency")) return batch;
  const isLeft = batch.dealtWith < requests.length;
  // Who has to wait for its time leaves the permits that are free until then to others.
  const waits = isLeft && batch.waitsFor !== "time" &&
    (isMarked || (marks && batch.waitsFor === "permit" && batch.dealtWith === 0));
  const mark = !waits ? undefined : batch.dealtWith === 0 ? since - state.epoch : time;
  const parts = withPermits(rules, batch.parts, (all) => markWaiting(all, owner, mark, time, MARK_MS));
  return { ...batch, parts };
}

/** The states with the permits replaced; the same ones if there are none, or they stay as they are. */
function withPermits(rules: readonly Rule[], parts: Parts, replace: (permits: Permits) => Permits): Parts {
  const index = rules.findIndex((rule) => rule.kind === "concurrency");
  if (index < 0) return parts;
  const permits = parts[index] as Permits; // the state of the rule at that place
  const next = replace(permits);
  return next === permits ? parts : parts.map((part, i) => i === index ? next : part);
}
