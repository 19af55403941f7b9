import type { Batch, Grant, Insight, Request } from "../decision/batch.ts";
import { type Parts, permitsOf } from "../decision/decide.ts";
import { counted } from "../decision/others.ts";
import type { State } from "../decision/state.ts";
import { decideWork, type Terms, type Work } from "../decision/work.ts";
import type { Guest, Visit } from "../hand_over/guests.ts";
import type { Verdict } from "../hand_over/hand_over.ts";
import type { DecidedGuest } from "../hand_over/turns.ts";
import { leftToOthers } from "../rules/concurrency.ts";
import type { Rule } from "../rules/rule.ts";
import type { Caller } from "../waiting/outcome.ts";

/** What is to be written, and what everybody is told once it is. */
export interface Plan {
  readonly batch: Batch<Caller>;
  /** The callers that waited when the plan was made, followed by requests for slots that nobody waits for. */
  readonly requests: readonly Caller[];
  /** How many of the callers that waited are dealt with. */
  readonly dealtWith: number;
  /** How many slots that nobody waits for were to be taken. */
  readonly ahead: number;
  /** What the guests are told. */
  readonly verdicts: readonly DecidedGuest[];
  readonly state: State;
  /** Whether it has to be written. */
  readonly changed: boolean;
  /** Whether somebody has to check if a permit is free by now. */
  readonly isDoubtful: boolean;
  /** Whether something is given back, so that others may have it. */
  readonly givesBack: boolean;
  readonly decidedAt: number;
  /** How many of the things to undo were undone. */
  readonly undone: number;
  /** The last moment that it grants to anybody; `-Infinity` if it grants nothing. */
  readonly latest: number;
  /** Whether it takes something out from between other grants. */
  readonly mixes: boolean;
}

/**
 * Decides this process's own work and that of its guests in a state: whoever has waited longest comes first, here or
 * elsewhere. `insight` is what is known about the grants in that state.
 */
export function planFor(
  rules: readonly Rule[],
  base: State,
  own: Work<Caller>,
  { all, next }: Visit,
  terms: Terms,
  insight: Insight | undefined,
): Plan {
  const verdicts: DecidedGuest[] = all.length > 0 ? [] : NO_VERDICTS;
  let parts = base.parts;
  let latest = -Infinity;
  let isDoubtful = false;
  let givesBack = false;
  // A process that says what it holds may have been granted more by a write that is still on its way. This write keeps
  // that one from succeeding, even if it changes nothing.
  let isTold = own.held !== undefined;
  const hasOthers = base.others.length > 0;
  const grants: Grant[] = [];
  const decide = <R extends Request>(work: Work<R>, known?: Insight) => {
    const batch = decideWork(rules, { ...base, parts }, work, terms, known);
    givesBack ||= work.undos.length > 0 || leavesPermits(rules, parts, batch.parts, work.owner);
    parts = batch.parts;
    for (const { grant } of batch.granted) {
      if (grant.at > latest) latest = grant.at;
      if (hasOthers) grants.push(grant);
    }
    isDoubtful ||= batch.waitsFor === "doubt";
    isTold ||= work.held !== undefined;
    return batch;
  };
  const guests = all.length > 1 ? all.toSorted((a, b) => a.work.since - b.work.since) : all;
  const welcome = (guest: Guest) => {
    const state = { ...base, parts };
    const batch = decide(guest.work);
    const { granted: { length: granted }, dealtWith } = batch;
    verdicts.push({
      guest,
      verdict: { state, terms, granted, dealtWith, lastAt: lastOf(batch), next: next?.work.owner },
    });
  };
  let first = 0;
  while (first < guests.length && guests[first]!.work.since < own.since) welcome(guests[first++]!);
  const batch = decide(own, insight && { ...insight, latest: Math.max(insight.latest, latest) });
  while (first < guests.length) welcome(guests[first++]!);
  const state = { ...base, parts, others: counted(base, grants, terms.now) };
  return {
    ...ofThoseWhoWait(batch, own.requests),
    batch,
    requests: own.requests,
    verdicts,
    state,
    changed: isTold || parts !== base.parts,
    isDoubtful,
    givesBack,
    decidedAt: terms.now,
    undone: own.undos.length,
    latest,
    mixes: batch.mixes,
  };
}

/**
 * The plan that another process has made for this work, which was sent at `decidedAt`. The work is decided again here;
 * `undefined` if the results differ, because the other process then cannot have decided this work.
 */
export function planOf(
  rules: readonly Rule[],
  work: Work<Caller>,
  verdict: Verdict,
  decidedAt: number,
): Plan | undefined {
  const { requests, undos } = work;
  const batch = decideWork(rules, verdict.state, work, verdict.terms);
  const { granted, dealtWith } = batch;
  if (granted.length !== verdict.granted || dealtWith !== verdict.dealtWith || lastOf(batch) !== verdict.lastAt) {
    return undefined;
  }
  const state = { ...verdict.state, parts: batch.parts };
  return {
    ...ofThoseWhoWait(batch, requests),
    batch,
    requests,
    verdicts: NO_VERDICTS,
    state,
    changed: true,
    isDoubtful: false,
    givesBack: false,
    decidedAt,
    undone: undos.length,
    latest: Infinity,
    mixes: false,
  };
}

/** Whether others may have a permit that was held by `owner`, or kept for it. */
function leavesPermits(rules: readonly Rule[], before: Parts, after: Parts, owner: string): boolean {
  const had = permitsOf(rules, before);
  const left = permitsOf(rules, after);
  return had !== undefined && left !== undefined && had !== left && leftToOthers(had, left, owner);
}

const NO_VERDICTS: DecidedGuest[] = []; // and none is ever put into it

/** Separates the callers that wait from the requests behind them, which are for callers that are still to come. */
function ofThoseWhoWait({ dealtWith }: Batch<Caller>, requests: readonly Caller[]): Pick<Plan, "dealtWith" | "ahead"> {
  if (requests.at(-1)?.isAhead !== true) return { dealtWith, ahead: 0 };
  const first = requests.findIndex(({ isAhead }) => isAhead);
  return { dealtWith: Math.min(dealtWith, first), ahead: requests.length - first };
}

/** The last moment that a batch grants, or 0. */
function lastOf({ granted }: Batch<Request>): number {
  return granted.at(-1)?.grant.at ?? 0;
}
