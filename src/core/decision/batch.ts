import type { Demand, Rule } from "../rules/rule.ts";
import type { RuleState } from "../rules/states.ts";
import {
  earliestStart,
  earliestStartBehind,
  extraReachOf,
  limitsConcurrency,
  type Obstacle,
  obstacle,
  type Parts,
  takeAll,
} from "./decide.ts";
import { shiftParts, type State } from "./state.ts";

/** A request that was granted. */
export interface Grant {
  /** When it may start at the earliest, in milliseconds since the Unix epoch. */
  readonly from: number;
  /** The moment for which it counts. It may start later by up to the rules' tolerance. */
  readonly at: number;
  /** The epoch of the states. */
  readonly epoch: number;
  /** The states of the rules in which it was granted. */
  readonly before: Parts;
  /** The states of the rules after it. */
  readonly after: Parts;
  /** What was asked for. */
  readonly demand: Demand;
}

/** A grant that is to be taken back. */
export interface Undo {
  readonly grant: Grant;
  /** Whether the request never started: if so, everything comes back, and otherwise only the permit. */
  readonly unused: boolean;
}

/** A request as a batch sees it. */
export interface Request {
  readonly demand: Demand;
  /** The latest moment at which it may start. */
  readonly deadline: number;
  /** Whether it is willing to wait at all. */
  readonly patient: boolean;
  /** How long it may be kept before it starts, in milliseconds: it counts for that much later. */
  readonly keepMs?: number;
}

/** Why a request was refused: what stood in its way, and in which state. */
export interface Refusal extends Obstacle {
  readonly state: State;
}

/** The input for deciding a batch. */
export interface BatchOptions<R extends Request> {
  readonly rules: readonly Rule[];
  /** The stored state, as far as it is known, after grants were given back and permits renewed. */
  readonly state: State;
  /** Whether giving back has taken something out from between other grants. */
  readonly mixes: boolean;
  readonly now: number;
  /** How much later than the moment of decision a grant counts, in milliseconds. */
  readonly lead: number;
  /** How much later than its earliest start a grant for a future moment counts, in milliseconds. */
  readonly slack: number;
  /** The moment up to which slots are granted ahead. */
  readonly horizon: number;
  /** Whether the state cannot have changed since it became known. */
  readonly isFresh: boolean;
  /** Whether the first request was passed over, and may be granted a moment that is farther away. */
  readonly isOverdue: boolean;
  /** The requests, in order of arrival. */
  readonly requests: readonly R[];
  /** Returns a number for a permit, never the same one twice. */
  readonly nextPermit: () => number;
  /** How long whoever asks holds a permit without renewing it, in milliseconds. */
  readonly leaseMs: number;
}

/** The result of a batch, if it is written. */
export interface Batch<R extends Request> extends Undone {
  readonly granted: readonly { readonly request: R; readonly grant: Grant }[];
  readonly refused: readonly { readonly request: R; readonly refusal: Refusal }[];
  /** How many requests, counted from the head, are dealt with. */
  readonly dealtWith: number;
  /**
   * Why the request after those was not decided, if there is one: it has to wait for its time or for a permit, or a
   * permit may be free by now, and somebody has to look.
   */
  readonly waitsFor: "time" | "permit" | "doubt" | undefined;
  /** The moment that it waits for, if it waits for its time. */
  readonly waitsUntil: number;
}

/**
 * Decides requests in order, each in the state that the ones before it left, until one has to wait. A request that
 * cannot get a moment by its deadline is refused, whether permits are taken or not, and so is one that is not willing to
 * wait for a permit.
 */
export function decideBatch<R extends Request>(options: BatchOptions<R>): Batch<R> {
  const { rules, state, mixes, now, lead, slack, horizon, isFresh, isOverdue, requests, nextPermit, leaseMs } = options;
  const { epoch } = state;
  const time = now - epoch;
  const countsPermits = rules.some(limitsConcurrency);
  const granted: { request: R; grant: Grant }[] = [];
  let refused: { request: R; refusal: Refusal }[] = NOBODY;
  let parts = state.parts;
  let waitsFor: Batch<R>["waitsFor"];
  let waitsUntil = Infinity;
  let dealtWith = 0;
  for (const request of requests) {
    const at = earliestStart(rules, parts, time, request.demand);
    const from = at + epoch;
    const permitsAreTaken = at === Infinity;
    if (permitsAreTaken && !isFresh) {
      waitsFor = "doubt";
      break;
    }
    // What was granted just before counts for the moment when the answer will be here, and a window starts nothing
    // before that. So a request that does not want to wait also starts then.
    const latest = Math.max(request.deadline, request.patient ? now : now + lead);
    const isHopeless = permitsAreTaken
      // A permit may come at any moment, but what only time brings does not come any sooner.
      ? !request.patient || earliestStartBehind(rules, parts, time, 0, request.demand) + epoch > latest
      : from > latest;
    if (isHopeless) {
      const refusal = refusalOf(rules, { ...state, parts }, now, request.demand);
      if (refused.length === 0) refused = [{ request, refusal }];
      else refused.push({ request, refusal });
    } else if (from > horizon + (isOverdue && dealtWith === 0 ? extraReachOf(rules, request.demand.cost) : 0)) {
      waitsFor = permitsAreTaken ? "permit" : "time";
      waitsUntil = from;
      break;
    } else {
      // One number for each grant, not for each request: requests may exchange what they were granted.
      const demand = countsPermits ? { ...request.demand, permit: nextPermit(), leaseMs } : request.demand;
      const countsFrom = Math.max(time + Math.max(lead, request.keepMs ?? 0), at > time ? at + slack : at);
      const counted = at < countsFrom ? earliestStart(rules, parts, time, demand, countsFrom) : at;
      const after = takeAll(rules, parts, counted, time, demand);
      granted.push({ request, grant: { from, at: counted + epoch, epoch, before: parts, after, demand } });
      parts = after;
    }
    dealtWith++;
  }
  return { parts, mixes, granted, refused, dealtWith, waitsFor, waitsUntil };
}

const NOBODY: never[] = []; // never written to

/**
 * How many times as long as one answer it takes until the next one is here, if it is asked for a little later than
 * possible.
 */
const TWO_ANSWERS = 2.25;

/**
 * How far ahead slots are granted, in milliseconds: as far as may be reserved, but at least until this answer arrives,
 * because a slot that begins before that can be granted now or never. With a rate, at least until the next answer
 * arrives, or the rate would not be used in full. A window does without that: it logs what is reserved, and its log has
 * to stay short.
 */
export function reachOf(rules: readonly Rule[], reserveAheadMs: number, leadMs: number): number {
  const limitsWindow = rules.some(({ kind }) => kind === "window");
  return Math.max(reserveAheadMs, limitsWindow ? leadMs : TWO_ANSWERS * leadMs);
}

/** A refusal of the request in this state, behind others whose total cost is `ahead`. */
export function refusalOf(rules: readonly Rule[], state: State, now: number, demand: Demand, ahead = 0): Refusal {
  const { rule, retryAt } = obstacle(rules, state.parts, now - state.epoch, demand, ahead);
  return { rule, retryAt: retryAt + state.epoch, state };
}

/** What is known about the grants in a state. */
export interface Insight {
  /** All grants that count for a later moment than this were made here. */
  readonly since: number;
  /** The last moment that was granted here. */
  readonly latest: number;
  /**
   * For grants that count for this moment or an earlier one, the state after them says nothing about what came later:
   * other grants have been taken out from among them.
   */
  readonly mixedUntil: number;
}

const NO_INSIGHT: Insight = { since: Infinity, latest: Infinity, mixedUntil: -Infinity };

/** The states that are left after grants are taken back. */
export interface Undone {
  readonly parts: Parts;
  /** Whether a grant was taken out from between others, so that their states do not show what comes after them. */
  readonly mixes: boolean;
}

/** The states of the rules after these grants are taken back, as far as nothing later depends on them. */
export function withoutUndone(
  rules: readonly Rule[],
  { epoch, parts }: State,
  undos: readonly Undo[],
  { since, latest, mixedUntil }: Insight = NO_INSIGHT,
): Undone {
  if (undos.length === 0) return { parts, mixes: false };
  let mixes = false;
  let left = parts;
  // The latest first: without further knowledge, a rate gives back only what nothing later depends on.
  for (const { grant, unused } of undos.toSorted((a, b) => a.grant.at - b.grant.at).reverse()) {
    const before = shiftParts(rules, grant.before, epoch - grant.epoch);
    const after = shiftParts(rules, grant.after, epoch - grant.epoch);
    const isMixed = mixes || grant.at <= mixedUntil;
    left = replaced(left, (part, i) => {
      const rule = rules[i]!;
      if (!unused && rule.kind !== "concurrency") return part;
      const taken = { at: grant.at - epoch, before: before[i]!, after: after[i]!, demand: grant.demand };
      if (rule.kind !== "rate" || (part === after[i] && !isMixed)) return rule.giveBack(part, taken);
      if (grant.at <= since) return part;
      const without = rule.giveBack(part, { ...taken, latest: latest - epoch });
      mixes ||= without !== part;
      return without;
    });
  }
  return { parts: left, mixes };
}

/** The parts with some of them replaced; the same array if all stay as they are. */
function replaced(parts: Parts, replace: (part: RuleState, index: number) => RuleState): Parts {
  const next = parts.map(replace);
  return next.every((part, i) => part === parts[i]) ? parts : next;
}
