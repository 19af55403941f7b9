import type { Rule, Usage } from "../rules/rule.ts";
import type { RuleState } from "../rules/states.ts";
import { extraReachOf, maximumCost, type Parts, scarcest } from "./decide.ts";

/** The version of the stored value that this code reads and writes. */
export const STATE_VERSION = 1;

/** How many recent writers a value remembers. */
const REMEMBERED_WRITERS = 8;

/** Times are kept relative to an epoch, so that fractions of them stay exact. The epoch moves along after this long. */
const EPOCH_LENGTH_MS = 4_000_000;

/** A value that is longer than this, in bytes, was not written by a limiter. */
const LONGEST_VALUE = 2 ** 23;

/** What the rules of other processes keep may be nested this deep. Writing it again takes stack, which is limited. */
const DEEPEST_FOREIGN = 32;

/**
 * How far the moments of a value may lie beyond everything that its rules can grant or hold. Another process may have
 * granted further ahead, or for longer, than this one would; but what lies beyond this was not written by a limiter,
 * and would keep everybody waiting for that long.
 */
const CONFIGURED_OTHERWISE_MS = 86_400_000;
/** The same for a value that was written by other rules. */
const OTHER_RULES_MS = 365 * 86_400_000;

/** A process that wrote the value, and the number of its last write. */
export type Writer = readonly [id: string, operation: number];

/** Everything that is stored under one key, as all processes see it. */
export interface State {
  /** The moment that all times in `parts` are relative to, in whole milliseconds since the Unix epoch. */
  readonly epoch: number;
  /** What each rule keeps. */
  readonly parts: Parts;
  /** The recent writers, the latest last, so that a writer that heard nothing can see whether it wrote. */
  readonly writers: readonly Writer[];
  /** What the rules of other processes keep, which this process does not know. It is kept as it is. */
  readonly foreign: readonly (readonly [field: string, value: unknown])[];
}

/** The part of a state that says what is left. */
export type Snapshot = Pick<State, "epoch" | "parts">;

/** The state in which nothing is used. */
export function freshState(rules: readonly Rule[], now: number): State {
  return { epoch: Math.floor(now), parts: rules.map((rule) => rule.initial), writers: [], foreign: [] };
}

/** The state in which nothing is left. */
export function exhaustedState(rules: readonly Rule[], now: number): State {
  const state = freshState(rules, now);
  return { ...state, parts: rules.map((rule) => rule.exhausted(now - state.epoch)) };
}

/** Whether the epoch of the state may stay as it is. */
export function isRecent({ epoch, foreign }: State, now: number): boolean {
  // Foreign fields cannot be shifted, so the epoch stays.
  return now < epoch + EPOCH_LENGTH_MS || foreign.length > 0;
}

/** The same state, relative to a later epoch if that is due. */
export function withRecentEpoch(rules: readonly Rule[], state: State, now: number): State {
  if (isRecent(state, now)) return state;
  const ms = Math.floor(now) - state.epoch;
  return { ...state, epoch: state.epoch + ms, parts: shiftParts(rules, state.parts, ms) };
}

/** The states of the rules, relative to an epoch that is later by `ms`. */
export function shiftParts(rules: readonly Rule[], parts: Parts, ms: number): Parts {
  return ms === 0 ? parts : rules.map((rule, i) => rule.shift(parts[i]!, ms));
}

/** The writers after `writer` has written too. */
export function withWriter(writers: readonly Writer[], writer: Writer): readonly Writer[] {
  const others = writers.filter(([id]) => id !== writer[0]);
  return [...others.slice(-(REMEMBERED_WRITERS - 1)), writer];
}

/** Whether this write is the last one of its writer that led to the state. */
export function wasWritten(state: State, [id, operation]: Writer): boolean {
  return state.writers.some((writer) => writer[0] === id && writer[1] === operation);
}

/**
 * Whether a write of `id` is missing from the state because the store lost it, and not because others have written
 * since.
 */
export function lostWrite({ writers }: State, [id, operation]: Writer): boolean {
  const own = writers.find((writer) => writer[0] === id);
  return own ? own[1] < operation : writers.length < REMEMBERED_WRITERS;
}

/** The moment from which the state says no more than no state at all. */
export function idleFrom(rules: readonly Rule[], state: State): number {
  return rules.reduce((last, rule, i) => Math.max(last, rule.idleFrom(state.parts[i]!)), 0) + state.epoch;
}

/** What is left of a limit, as callers are told. */
export interface Left {
  readonly limit: number;
  readonly remaining: number;
  readonly resetInMs: number;
}

/** What is left in this state. */
export function leftIn(rules: readonly Rule[], { epoch, parts }: Snapshot, now: number): Left {
  const time = now - epoch;
  return leftOf(scarcest(rules, parts, time), time);
}

/** What is left if this is what is used at `now`. */
export function leftOf({ limit, remaining, resetAt }: Usage, now: number): Left {
  return { limit, remaining, resetInMs: Math.max(0, resetAt - now) };
}

/** How a state is encoded as bytes and decoded again, for one list of rules. */
export interface Codec {
  /** The rules in words. Processes whose words differ do not have the same limits. */
  readonly fingerprint: string;
  /** Readable JSON. */
  encode(state: State): Uint8Array;
  /** Never throws, and never trusts what it reads. */
  decode(bytes: Uint8Array): Decoded;
}

/** What the bytes of a value turned out to be. */
export type Decoded =
  | { readonly kind: "state"; readonly state: State; readonly fingerprint: string }
  | { readonly kind: "newer"; readonly version: number }
  | { readonly kind: "damaged"; readonly problem: string };

const OWN_FIELDS = new Set(["v", "rules", "epoch", "writers"]);

/** The codec for a list of rules. */
export function stateCodec(rules: readonly Rule[]): Codec {
  const fields = fieldNames(rules);
  const fingerprint = rules.map((rule) => rule.label).join("; ");
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { fatal: true });

  return {
    fingerprint,
    encode({ epoch, parts, writers, foreign }) {
      const json: Record<string, unknown> = { v: STATE_VERSION, rules: fingerprint, epoch };
      fields.forEach((field, i) => json[field] = parts[i]);
      json["writers"] = writers;
      // fromEntries defines its fields, whereas assigning a foreign `__proto__` would set the prototype.
      const whole = foreign.length === 0 ? json : Object.fromEntries([...Object.entries(json), ...foreign]);
      return encoder.encode(JSON.stringify(whole));
    },
    decode(bytes) {
      const json = parseObject(bytes, decoder);
      if (json === undefined) return { kind: "damaged", problem: "it is not a JSON object" };
      const version = json.get("v");
      if (typeof version === "number" && Number.isSafeInteger(version) && version > STATE_VERSION) {
        return { kind: "newer", version };
      }
      if (version !== STATE_VERSION) return { kind: "damaged", problem: "its field 'v' is not a version" };
      const epoch = json.get("epoch");
      if (typeof epoch !== "number" || !Number.isSafeInteger(epoch)) {
        return { kind: "damaged", problem: "its field 'epoch' is not a whole number of milliseconds" };
      }
      const writers = decodeWriters(json.get("writers"));
      if (!writers) return { kind: "damaged", problem: "its field 'writers' is not a list of [id, number]" };
      const parts: RuleState[] = [];
      for (const [i, rule] of rules.entries()) {
        const field = fields[i]!;
        const part = json.has(field) ? rule.decode(json.get(field)) : rule.initial;
        if (part === undefined) return { kind: "damaged", problem: `its field '${field}' cannot be understood` };
        parts.push(part);
      }
      const foreign = [...json].filter(([field]) => !OWN_FIELDS.has(field) && !fields.includes(field));
      if (!foreign.every(([, value]) => isShallow(value, DEEPEST_FOREIGN))) {
        return { kind: "damaged", problem: "a field of it is nested too deep" };
      }
      const words = json.get("rules");
      return {
        kind: "state",
        state: { epoch, parts, writers, foreign },
        fingerprint: typeof words === "string" ? words : "",
      };
    },
  };
}

/** The decoded value, unless it would make somebody wait for longer than the rules could ever make anybody wait. */
export function plausible(
  rules: readonly Rule[],
  decoded: Decoded,
  { now, reserveAheadMs, fingerprint }: {
    readonly now: number;
    readonly reserveAheadMs: number;
    readonly fingerprint: string;
  },
): Decoded {
  if (decoded.kind !== "state") return decoded;
  const { state: { epoch, parts } } = decoded;
  const latest = now + reserveAheadMs +
    (decoded.fingerprint === fingerprint ? CONFIGURED_OTHERWISE_MS : OTHER_RULES_MS);
  const extraReachMs = extraReachOf(rules, maximumCost(rules).maximum);
  const isTooFar = epoch > latest ||
    rules.some((rule, i) => rule.idleFrom(parts[i]!) + epoch > latest + extraReachMs + rule.horizonMs);
  return isTooFar ? { kind: "damaged", problem: "a moment in it lies too far in the future" } : decoded;
}

/** `rate` for the first rate, `rate2` for the second, and so on. */
function fieldNames(rules: readonly Rule[]): string[] {
  const seen = new Map<string, number>();
  return rules.map((rule) => {
    const count = (seen.get(rule.kind) ?? 0) + 1;
    seen.set(rule.kind, count);
    return count > 1 ? `${rule.kind}${count}` : rule.kind;
  });
}

function parseObject(bytes: Uint8Array, decoder: TextDecoder): Map<string, unknown> | undefined {
  if (bytes.length > LONGEST_VALUE) return undefined;
  try {
    const json: unknown = JSON.parse(decoder.decode(bytes));
    if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
    return new Map(Object.entries(json));
  } catch {
    return undefined;
  }
}

/** Whether nothing is nested deeper than `depth`. The check itself goes no deeper either. */
function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1));
}

/** The writers that `json` represents, or `undefined` if it represents none. */
export function decodeWriters(json: unknown): Writer[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const writers: Writer[] = [];
  for (const entry of json) {
    if (!Array.isArray(entry)) return undefined;
    const [id, operation] = entry as readonly unknown[]; // nothing is assumed about its entries
    if (typeof id !== "string" || typeof operation !== "number" || !Number.isSafeInteger(operation)) return undefined;
    writers.push([id, operation]);
  }
  return writers;
}
