import type { Undo } from "../decision/batch.ts";
import { limitsConcurrency, maximumCost, type Parts } from "../decision/decide.ts";
import { type Codec, decodeWriters, type State, type Writer } from "../decision/state.ts";
import type { Terms, Work } from "../decision/work.ts";
import type { Rule } from "../rules/rule.ts";
import type { RuleState } from "../rules/states.ts";

/** The version of the messages that this code reads and writes. */
const VERSION = 1;
/** How many requests are handed over at once; the rest follow later. */
export const MOST_REQUESTS = 5_000;
/** A process that wants longer leases than this has to write itself. */
const LONGEST_LEASE_MS = 86_400_000;
/** A process whose grants count for later than this has to write itself. */
export const LONGEST_LEAD_MS = 60_000;

/** Work that another process has asked for. */
export interface ForeignWork {
  /** The key in the store that the work is about. */
  readonly key: string;
  readonly work: Work;
  /** The number of this work. A process counts what it hands over, so work that arrives twice is recognized. */
  readonly number: number;
  /** The moment from which the process no longer waits for an answer. */
  readonly until: number;
  /** Whether the process that is asked was chosen to write from now on: it may not have heard that yet. */
  readonly isYourTurn: boolean;
}

/** Work from a process that has other rules, so that it cannot be decided here. */
export interface StrangeWork {
  /** The key in the store that the work is about. */
  readonly key: string;
  readonly work?: undefined;
}

/**
 * How work was decided: enough for the process that it belongs to, which decides it again and comes to the same result.
 */
export interface Verdict {
  /** The state in which it was decided. */
  readonly state: State;
  readonly terms: Terms;
  /**
   * How many requests were granted, how many were dealt with, and the last moment that was granted: to check that all
   * agree.
   */
  readonly granted: number;
  readonly dealtWith: number;
  readonly lastAt: number;
  /** Which of the processes that asked is to write from now on, if any. */
  readonly next: string | undefined;
}

/**
 * What a process whose work was declined may do instead: ask another process, or write, because there is room for that
 * now. `undefined`: nobody knows.
 */
export type Advice = { readonly ask: string } | "write" | undefined;

/** What came back; `undefined` if it could not be understood. */
export type Answer =
  | { readonly kind: "decided"; readonly verdict: Verdict }
  /** Nothing was or will be done about the work. */
  | { readonly kind: "declined"; readonly advice: Advice }
  | undefined;

/** How processes with the same rules encode work and verdicts as bytes. */
export interface HandOver {
  encodeWork(foreign: ForeignWork): Uint8Array;
  /** Returns `undefined` for what does not make sense. */
  decodeWork(bytes: Uint8Array): ForeignWork | StrangeWork | undefined;
  encodeVerdict(verdict: Verdict): Uint8Array;
  /** Says that nothing was or will be done, and what to do instead. */
  encodeRefusal(advice?: Advice): Uint8Array;
  decodeAnswer(bytes: Uint8Array): Answer;
}

/** What answers begin with, after the version. */
const DECIDED = "decided";
const DECLINED = "declined";

/**
 * The messages of processes that have these rules: lists in JSON, because names would take longer to write and to read
 * than everything else.
 */
export function createHandOver(rules: readonly Rule[], codec: Codec): HandOver {
  const encoder = new TextEncoder();
  // Bytes that are not UTF-8 become text that names nothing here. Refusing them takes three times as long in Deno.
  const decoder = new TextDecoder();
  const mostCost = maximumCost(rules).maximum;
  // A process that holds permits can tell from the writers whether the store has lost something. All others read anew
  // before they write.
  const countsPermits = rules.some(limitsConcurrency);
  const encode = (message: readonly unknown[]) => encoder.encode(JSON.stringify([VERSION, ...message]));
  const decode = (bytes: Uint8Array): readonly unknown[] | undefined => {
    try {
      const json: unknown = JSON.parse(decoder.decode(bytes));
      return Array.isArray(json) && json[0] === VERSION ? json : undefined;
    } catch {
      return undefined;
    }
  };
  // To take a grant back, a rate needs its own states; for the other rules the grant is enough.
  const numbersOf = (parts: Parts) => parts.map((part) => typeof part === "number" ? part : null);
  const partsOf = (json: unknown, isWhole: boolean): Parts | undefined => {
    if (!Array.isArray(json) || json.length !== rules.length) return undefined;
    const parts: RuleState[] = [];
    for (const [i, rule] of rules.entries()) {
      const part = json[i] === null && !isWhole ? rule.initial : rule.decode(json[i]);
      if (part === undefined) return undefined;
      parts.push(part);
    }
    return parts;
  };

  function undoOf(json: unknown, owner: string): Undo | undefined {
    if (!Array.isArray(json) || !isNumbers(json.slice(0, 4)) || !areWhole([json[1], json[3]])) return undefined;
    const [at, epoch, cost, permit, unused] = json as readonly number[]; // checked above, except for the last
    const [before, after] = [partsOf(json[5], false), partsOf(json[6], false)];
    if (!before || !after || !(cost! > 0)) return undefined;
    // Taking back a grant leaves less in use.
    if (before.some((part, i) => typeof part === "number" && part > Number(after[i]))) return undefined;
    const demand = { cost: cost!, owner, permit: permit! };
    return { grant: { from: at!, at: at!, epoch: epoch!, before, after, demand }, unused: unused === 1 };
  }

  function undosOf(json: unknown, owner: string): Undo[] | undefined {
    if (!Array.isArray(json)) return undefined;
    const undos = json.map((undo) => undoOf(undo, owner));
    return undos.every((undo) => undo !== undefined) ? undos : undefined;
  }

  return {
    encodeWork({ key, number, until, isYourTurn, work }) {
      const { owner, leaseMs, undos, held, requests, firstPermit, since, marks, isMarked, isOverdue, lead } = work;
      const { slack, restraint } = work;
      return encode([
        ...[codec.fingerprint, key, owner, number, until, isYourTurn, leaseMs, firstPermit, since, marks, isMarked],
        ...[isOverdue, lead, slack, restraint, held ?? null],
        undos.map(({ grant: { at, epoch, demand, before, after }, unused }) => [
          ...[at, epoch, demand.cost, demand.permit, unused ? 1 : 0],
          ...[numbersOf(before), numbersOf(after)],
        ]),
        runsOf(requests),
      ]);
    },
    decodeWork(bytes) {
      const message = decode(bytes);
      if (!message) return undefined;
      const [, words, key, owner, number, until, isYourTurn, leaseMs, firstPermit, since, marks, ...others] = message;
      if (typeof words !== "string" || typeof key !== "string" || typeof owner !== "string") return undefined;
      if (words !== codec.fingerprint) return { key };
      const [isMarked, isOverdue, lead, slack, restraint, held, undos, requests] = others;
      if (!isNumber(until) || !isNumber(since) || !isWhole(number) || !isWhole(firstPermit)) return undefined;
      if (!isLead(lead) || !isLead(slack) || !isNumber(restraint) || restraint < 0) return undefined;
      if (!isNumber(leaseMs) || leaseMs <= 0 || leaseMs > LONGEST_LEASE_MS) return undefined;
      if (held !== null && !(Array.isArray(held) && areWhole(held))) return undefined;
      const decodedUndos = undosOf(undos, owner);
      const decodedRequests = requestsOf(requests, owner, mostCost);
      if (!decodedRequests || !decodedUndos) return undefined;
      const work: Work = {
        owner,
        leaseMs,
        undos: decodedUndos,
        held: held ?? undefined,
        requests: decodedRequests,
        firstPermit,
        since,
        marks: marks === true,
        isMarked: isMarked === true,
        isOverdue: isOverdue === true,
        lead,
        slack,
        restraint,
      };
      return { key, work, number, until, isYourTurn: isYourTurn === true };
    },
    encodeVerdict(
      { state: { epoch, parts, writers }, terms: { now, horizon, isFresh }, granted, dealtWith, lastAt, next },
    ) {
      const others = countsPermits ? writers : NOBODY;
      return encode([DECIDED, now, horizon, isFresh, granted, dealtWith, lastAt, next ?? null, epoch, parts, others]);
    },
    encodeRefusal: (advice) => encode([DECLINED, typeof advice === "object" ? advice.ask : null, advice === "write"]),
    decodeAnswer(bytes) {
      if (bytes.length === 0) return { kind: "declined", advice: undefined };
      const message = decode(bytes);
      if (message?.[1] === DECLINED) {
        const [, , other, isRoom] = message;
        if (isRoom === true) return { kind: "declined", advice: "write" };
        return { kind: "declined", advice: typeof other === "string" ? { ask: other } : undefined };
      }
      if (message?.[1] !== DECIDED) return undefined;
      const [, , now, horizon, isFresh, granted, dealtWith, lastAt, nextWriter, epoch, stored, writtenBy] = message;
      const parts = partsOf(stored, true);
      const writers = decodeWriters(writtenBy);
      if (!parts || !writers || !isWhole(epoch) || !isNumber(now) || !isNumber(horizon)) return undefined;
      if (!isNumber(granted) || !isNumber(dealtWith) || !isNumber(lastAt)) return undefined;
      const terms = { now, horizon, isFresh: isFresh === true };
      // What is kept for others is read before anything is written.
      const state = { epoch, parts, writers, others: [] };
      const next = typeof nextWriter === "string" ? nextWriter : undefined;
      return { kind: "decided", verdict: { state, terms, granted, dealtWith, lastAt, next } };
    },
  };
}

const NOBODY: readonly Writer[] = [];

function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function isNumbers(values: readonly unknown[]): values is readonly number[] {
  return values.every(isNumber);
}

function isLead(value: unknown): value is number {
  return isNumber(value) && value >= 0 && value <= LONGEST_LEAD_MS;
}

/** Whether these can be counts, or the numbers of permits or operations, and can still be added to. */
function areWhole(values: readonly unknown[]): values is readonly number[] {
  return values.every(isWhole);
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= MOST_OF_ANYTHING;
}

const MOST_OF_ANYTHING = Number.MAX_SAFE_INTEGER - MOST_REQUESTS;

/**
 * Many callers want the same, so equal requests become one entry: `[count, cost, deadline, how long to keep it]`. A
 * deadline of `null` never comes.
 */
function runsOf(requests: Work["requests"]): (number | null)[][] {
  const runs: [count: number, cost: number, deadline: number | null, keepMs: number][] = [];
  for (const { demand: { cost }, deadline, patient, keepMs = 0 } of requests) {
    const until = !patient ? 0 : deadline === Infinity ? null : deadline;
    const last = runs.at(-1);
    if (last && last[1] === cost && last[2] === until && last[3] === keepMs) last[0]++;
    else runs.push([1, cost, until, keepMs]);
  }
  return runs;
}

function requestsOf(json: unknown, owner: string, mostCost: number): Work["requests"] | undefined {
  if (!Array.isArray(json)) return undefined;
  const requests: Work["requests"][number][] = [];
  for (const run of json) {
    if (!Array.isArray(run)) return undefined;
    const [count, cost, until, keepMs] = run as readonly unknown[]; // nothing is assumed about its entries
    if (!areWhole([count]) || typeof cost !== "number" || !(cost > 0) || cost > mostCost) return undefined;
    if (until !== null && !Number.isFinite(until)) return undefined;
    if (!isLead(keepMs)) return undefined;
    const deadline = until === null ? Infinity : Number(until);
    const request = {
      demand: { cost, owner, permit: 0 },
      deadline,
      patient: deadline !== 0,
      ...(keepMs > 0 ? { keepMs } : {}),
    };
    if (requests.length + Number(count) > MOST_REQUESTS) return undefined;
    for (let i = 0; i < Number(count); i++) requests.push(request);
  }
  return requests;
}
