import type { Demand, Rule } from "../rules/rule.ts";
import type { RuleState } from "../rules/states.ts";
import type { Parts } from "./decide.ts";

/** A rule that other processes have for the same limiter. */
export interface Other {
  readonly rule: Rule;
  /** What it keeps. */
  readonly part: RuleState;
  /** Until when one of those processes is expected to write again; relative to the epoch. */
  readonly until: number;
}

/** How long others may be silent until nobody counts for them any more. */
const SILENCE_MS = 3_600_000;

/** How many rules of others are kept: limits that change all the time must not make a value ever longer. */
const MOST_OTHERS = 16;

/**
 * How far the moments of a value may lie beyond everything that its rules can grant or hold. Another process may have
 * granted further ahead, or for longer, than this one would; but what lies beyond this was not written by a limiter,
 * and would keep everybody waiting for that long.
 */
export const CONFIGURED_OTHERWISE_MS = 86_400_000;

/** The rule of a process that has just written this. */
export function writtenNow(rule: Rule, part: RuleState, now: number): Other {
  return { rule, part, until: Math.max(rule.idleFrom(part), now + SILENCE_MS) };
}

/**
 * Those whose process may still write, and to which what was granted still matters. If they are many, those that wrote
 * last.
 */
export function mattering(others: readonly Other[], now: number): readonly Other[] {
  const matters = ({ rule, part, until }: Other) => Math.min(until, rule.idleFrom(part)) > now;
  if (others.length <= MOST_OTHERS && others.every(matters)) return others;
  return others.filter(matters).sort((a, b) => b.until - a.until).slice(0, MOST_OTHERS);
}

/** What is made of a value that others have written. */
export interface Adopted {
  /** What these rules keep. */
  readonly parts: Parts;
  /** What remains for others. */
  readonly others: readonly Other[];
  /** Whether one of these rules took the place of another one just now. */
  readonly isNew: boolean;
}

/**
 * Finds what these rules keep where others have written. Rules with the same words are the same, wherever they stand. A
 * rule that nobody has written yet takes the place of one of its kind that is not among these; of several, that is the
 * one that leaves it least.
 */
export function adopted(rules: readonly Rule[], stored: readonly Other[], now: number): Adopted {
  const others = [...stored];
  const same = rules.map(({ kind, label }) => {
    // Permits are the same for all, however many each process allows.
    const isSame = ({ rule }: Other) => rule.kind === kind && (kind === "concurrency" || rule.label === label);
    const index = others.findIndex(isSame);
    return index < 0 ? undefined : others.splice(index, 1)[0]?.part;
  });
  const successors = rules.map((rule, i) => same[i] === undefined ? successor(rule, others, now) : undefined);
  const latest = now + CONFIGURED_OTHERWISE_MS;
  return {
    parts: rules.map((rule, i) => same[i] ?? successors[i] ?? rule.initial),
    others: mattering(others.filter(({ rule, until }) => until < latest + rule.horizonMs), now),
    isNew: successors.some((part) => part !== undefined),
  };
}

function successor(rule: Rule, others: readonly Other[], now: number): RuleState | undefined {
  const leftIn = (part: RuleState) => rule.usage(part, now).remaining;
  return others.filter(({ rule: { kind } }) => kind === rule.kind)
    .map((other) => converted(other, rule, now))
    .sort((a, b) => leftIn(a) - leftIn(b) || rule.idleFrom(b) - rule.idleFrom(a))[0];
}

/** As much of this rule is used as is of another one of its kind, but no more than there is. */
function converted({ rule: other, part }: Other, rule: Rule, now: number): RuleState {
  if (typeof part !== "number" || part <= now) return part;
  // Slots that are reserved ahead count from here. More is not known of their moments.
  const since = Math.max(now, part - other.horizonMs);
  const used = (part - since) / other.horizonMs * other.maximumCost;
  return since + rule.horizonMs * Math.min(1, used / rule.maximumCost);
}

/** What the rules of others keep after these grants, which count for them too. */
export function counted(
  { epoch, others }: { readonly epoch: number; readonly others: readonly Other[] },
  grants: readonly { readonly at: number; readonly demand: Demand }[],
  now: number,
): readonly Other[] {
  if (others.length === 0 || grants.length === 0) return others;
  return others.map((other) => {
    const { rule, part } = other;
    if (rule.kind === "concurrency") return other;
    const take = (before: RuleState, { at, demand }: { readonly at: number; readonly demand: Demand }) => {
      const after = rule.take(before, at - epoch, now - epoch, demand);
      // Where more is granted than this rule allows, nothing is left of it, but it does not get into debt.
      const empty = at - epoch + rule.horizonMs;
      return typeof after === "number" && typeof before === "number" ? Math.min(after, Math.max(before, empty)) : after;
    };
    return { ...other, part: grants.reduce(take, part) };
  });
}
