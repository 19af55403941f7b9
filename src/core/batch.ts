import { earliestStart, extraReachOf, type Obstacle, obstacle, type Parts, takeAll } from "./decide.ts";
import type { Demand, Rule } from "./rules/rule.ts";
import type { RuleState } from "./rules/states.ts";
import { shiftParts, type State } from "./state.ts";

/** A request that was granted. */
export interface Grant {
  /** From when on it may start, in milliseconds since the Unix epoch. */
  readonly from: number;
  /** The moment that it counts for; it may start later by the rules' tolerance. */
  readonly at: number;
  /** The epoch of the states. */
  readonly epoch: number;
  /** The states of the rules that it was granted in. */
  readonly before: Parts;
  /** The states of the rules that it left. */
  readonly after: Parts;
  /** What was asked for. */
  readonly demand: Demand;
}

/** Something that was granted, to be taken back. */
export interface Undo {
  readonly grant: Grant;
  /** Whether the request never started: then everything comes back, and else only the permit. */
  readonly unused: boolean;
}

/** A request as a batch sees it. */
export interface Request {
  readonly demand: Demand;
  /** The latest moment to start at. */
  readonly deadline: number;
  /** Whether it would wait at all. */
  readonly patient: boolean;
  /** For how long it may be kept before it starts, in milliseconds: by so much later it counts. */
  readonly keepMs?: number;
}

/** A request that was refused: what stood in its way, in which state. */
export interface Refusal extends Obstacle {
  readonly state: State;
}

/** What a batch is decided on. */
export interface BatchOptions<R extends Request> {
  readonly rules: readonly Rule[];
  /** What is stored, as far as known, after what was given back or renewed. */
  readonly state: State;
  /** Whether that has taken something out from between other grants. */
  readonly mixes: boolean;
  readonly now: number;
  /** By how much a grant counts for later than it is decided, in milliseconds. */
  readonly lead: number;
  /** By how much a grant for a moment to come counts for later than it may start, in milliseconds. */
  readonly slack: number;
  /** How far ahead moments are granted, as a moment. */
  readonly horizon: number;
  /** Whether the state cannot have changed since it was known. */
  readonly isFresh: boolean;
  /** Whether the first one was passed over, and may be granted a moment that is farther away. */
  readonly isOverdue: boolean;
  /** In order of arrival. */
  readonly requests: readonly R[];
  /** A number for a permit, never the same one twice. */
  readonly nextPermit: () => number;
}

/** What became of a batch, if it is written. */
export interface Batch<R extends Request> extends Undone {
  readonly granted: readonly { readonly request: R; readonly grant: Grant }[];
  readonly refused: readonly { readonly request: R; readonly refusal: Refusal }[];
  /** How many requests from the head on are dealt with. */
  readonly dealtWith: number;
  /**
   * Why the request at that place was not decided, if there is one: it has to wait for its time, or for a permit; or a
   * permit may be free by now, and somebody has to look.
   */
  readonly waitsFor: "time" | "permit" | "doubt" | undefined;
  /** The moment that it waits for, if it waits for its time. */
  readonly waitsUntil: number;
}

/**
 * Decides requests in order, each in the state that the ones before left, until one has to wait. Who cannot get a moment
 * by its deadline, or a permit without waiting for it, is refused.
 */
export function decideBatch<R extends Request>(options: BatchOptions<R>): Batch<R> {
  const { rules, state, mixes, now, lead, slack, horizon, isFresh, isOverdue, requests, nextPermit } = options;
  const { epoch } = state;
  const time = now - epoch;
  const limitsConcurrency = rules.some((rule) => rule.kind === "concurrency");
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
    // What was granted just before counts for when the answer is here, and a window starts nothing before that: who does
    // not want to wait starts then, too.
    const latest = Math.max(request.deadline, request.patient ? now : now + lead);
    if (permitsAreTaken ? !request.patient : from > latest) {
      const refusal = refusalOf(rules, { ...state, parts }, now, request.demand);
      if (refused.length === 0) refused = [{ request, refusal }];
      else refused.push({ request, refusal });
    } else if (from > horizon + (isOverdue && dealtWith === 0 ? extraReachOf(rules, request.demand.cost) : 0)) {
      waitsFor = permitsAreTaken ? "permit" : "time";
      waitsUntil = from;
      break;
    } else {
      // A number for every grant and not for every request: requests may exchange what they were granted.
      const demand = limitsConcurrency ? { ...request.demand, permit: nextPermit() } : request.demand;
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

const NOBODY: never[] = []; // and nobody is ever put into it

/** Until the next answer is here, if it is asked for a little later than it could be. */
const TWO_ANSWERS = 2.25;

/**
 * How far ahead slots are granted, in milliseconds. Where answers take longer than anybody is to reserve ahead, what starts
 * by the time this one is here is granted with it or never; and a rate is used up only if that holds for what starts until
 * the next one is here, too. A window keeps all that was reserved, and has to stay short.
 */
export function reachOf(rules: readonly Rule[], reserveAheadMs: number, leadMs: number): number {
  const limitsWindow = rules.some(({ kind }) => kind === "window");
  return Math.max(reserveAheadMs, limitsWindow ? leadMs : TWO_ANSWERS * leadMs);
}

/** A refusal of the request in this state, behind others of `ahead` cost in all. */
export function refusalOf(rules: readonly Rule[], state: State, now: number, demand: Demand, ahead = 0): Refusal {
  const { rule, retryAt } = obstacle(rules, state.parts, now - state.epoch, demand, ahead);
  return { rule, retryAt: retryAt + state.epoch, state };
}

/** What is known of the grants in a state. */
export interface Insight {
  /** All that count for a later moment than this were granted here. */
  readonly since: number;
  /** The last moment that was granted here. */
  readonly latest: number;
  /** From the states of what counts for this moment or an earlier one, others have been taken out. */
  readonly mixedUntil: number;
}

const NO_INSIGHT: Insight = { since: Infinity, latest: Infinity, mixedUntil: -Infinity };

/** The states that are left when grants are taken back. */
export interface Undone {
  readonly parts: Parts;
  /** Whether something was taken out from between others, so that the states of those do not show what comes after them. */
  readonly mixes: boolean;
}

/** The states of the rules after what was granted is taken back, as far as nothing later depends on it. */
export function withoutUndone(
  rules: readonly Rule[],
  { epoch, parts }: State,
  undos: readonly Undo[],
  { since, latest, mixedUntil }: Insight = NO_INSIGHT,
): Undone {
  if (undos.length === 0) return { parts, mixes: false };
  let mixes = false;
  let left = parts;
  // The latest first: without knowing more, a rate gives back only what nothing later depends on.
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

/** The parts with some of them replaced; the same ones if all stay as they are. */
function replaced(parts: Parts, replace: (part: RuleState, index: number) => RuleState): Parts {
  const next = parts.map(replace);
  return next.every((part, i) => part === parts[i]) ? parts : next;
}
