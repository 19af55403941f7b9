import type { Rule, Usage } from "../rules/rule.ts";
import { ruleOf, type RuleTerms } from "../rules/rules.ts";
import { extraReachOf, maximumCost, type Parts, scarcest } from "./decide.ts";
import { adopted, CONFIGURED_OTHERWISE_MS, mattering, type Other, writtenNow } from "./others.ts";

/** The version of the stored value that this code reads and writes. */
export const STATE_VERSION = 1;

/** How many recent writers a value remembers. */
const REMEMBERED_WRITERS = 8;

/** Times are kept relative to an epoch, so that fractions of them stay exact. The epoch moves along after this long. */
const EPOCH_LENGTH_MS = 4_000_000;

/** A value that is longer than this, in bytes, was not written by a limiter. */
const LONGEST_VALUE = 2 ** 23;

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
  /** The rules that other processes have instead. What is granted counts for these too. */
  readonly others: readonly Other[];
}

/** The part of a state that says what is left. */
export type Snapshot = Pick<State, "epoch" | "parts">;

/** The state in which nothing is used. */
export function freshState(rules: readonly Rule[], now: number): State {
  return { epoch: Math.floor(now), parts: rules.map((rule) => rule.initial), writers: [], others: [] };
}

/** The state in which nothing is left. */
export function exhaustedState(rules: readonly Rule[], now: number): State {
  const state = freshState(rules, now);
  return { ...state, parts: rules.map((rule) => rule.exhausted(now - state.epoch)) };
}

/** Whether the epoch of the state may stay as it is. */
export function isRecent({ epoch }: State, now: number): boolean {
  return now < epoch + EPOCH_LENGTH_MS;
}

/** The same state without what no longer matters of others, and relative to a later epoch if that is due. */
export function withRecentEpoch(rules: readonly Rule[], state: State, now: number): State {
  const { epoch } = state;
  const others = mattering(state.others, now - epoch);
  const ms = isRecent(state, now) ? 0 : Math.floor(now) - epoch;
  if (ms === 0 && others === state.others) return state;
  return {
    ...state,
    epoch: epoch + ms,
    parts: shiftParts(rules, state.parts, ms),
    others: others.map(({ rule, part, until }) => ({ rule, part: rule.shift(part, ms), until: until - ms })),
  };
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
  const last = rules.reduce((latest, rule, i) => Math.max(latest, rule.idleFrom(state.parts[i]!)), 0);
  return state.others.reduce((latest, { rule, part }) => Math.max(latest, rule.idleFrom(part)), last) + state.epoch;
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
  /** What stands there at the time `now`. Never throws, and never trusts what it reads. */
  decode(bytes: Uint8Array, now: number): Decoded;
}

/** What the bytes of a value turned out to be. */
export type Decoded =
  | {
    readonly kind: "state";
    readonly state: State;
    readonly fingerprint: string;
    /** Whether what the rules keep was derived from others just now. */
    readonly isNew: boolean;
  }
  | { readonly kind: "newer"; readonly version: number }
  | { readonly kind: "damaged"; readonly problem: string };

const SEPARATOR = "; ";

/** The codec for a list of rules, which are kept on these terms. */
export function stateCodec(rules: readonly Rule[], terms: RuleTerms): Codec {
  const fields = fieldNames(rules);
  const fingerprint = rules.map((rule) => rule.label).join(SEPARATOR);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { fatal: true });

  return {
    fingerprint,
    encode({ epoch, parts, writers, others }) {
      const json: Record<string, unknown> = { v: STATE_VERSION, rules: fingerprint, epoch };
      fields.forEach((field, i) => json[field] = parts[i]);
      if (others.length > 0) {
        json["others"] = Object.fromEntries(others.map(({ rule, part, until }) => [rule.label, [until, part]]));
      }
      json["writers"] = writers;
      return encoder.encode(JSON.stringify(json));
    },
    decode(bytes, now) {
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
      const text = json.get("rules");
      const words = typeof text === "string" ? text : "";
      const writtenBy = words === fingerprint ? rules : rulesIn(words, terms) ?? rules;
      const stored: Other[] = [];
      for (const [i, field] of fieldNames(writtenBy).entries()) {
        const rule = writtenBy[i]!;
        const part = json.has(field) ? rule.decode(json.get(field)) : rule.initial;
        if (part === undefined) return { kind: "damaged", problem: `its field '${field}' cannot be understood` };
        stored.push(writtenNow(rule, part, now - epoch));
      }
      stored.push(...decodeOthers(json.get("others"), terms));
      const { parts, others, isNew } = adopted(rules, stored, now - epoch);
      const state = { epoch, parts, writers, others };
      return { kind: "state", state, fingerprint: words, isNew };
    },
  };
}

/** The decoded value, unless it would make somebody wait for longer than the rules could ever make anybody wait. */
export function plausible(rules: readonly Rule[], decoded: Decoded, now: number, reserveAheadMs: number): Decoded {
  if (decoded.kind !== "state") return decoded;
  const { state: { epoch, parts } } = decoded;
  const latest = now + reserveAheadMs + CONFIGURED_OTHERWISE_MS;
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

/** The rules that these words name, if all of them are understood. */
function rulesIn(words: string, terms: RuleTerms): readonly Rule[] | undefined {
  const rules = words.split(SEPARATOR).map((label) => ruleOf(label, terms));
  return rules.every((rule) => rule !== undefined) ? rules : undefined;
}

/** The rules of others than the last writer. What is not understood is left out. */
function decodeOthers(json: unknown, terms: RuleTerms): Other[] {
  return Object.entries(json ?? {}).flatMap(([label, entry]) => {
    const [until, stored]: readonly unknown[] = Array.isArray(entry) ? entry : [];
    const rule = ruleOf(label, terms);
    const part = rule?.decode(stored);
    return rule && part !== undefined && typeof until === "number" ? [{ rule, part, until }] : [];
  });
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
