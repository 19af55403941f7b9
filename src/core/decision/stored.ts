import { shown } from "../arguments.ts";
import type { Rule } from "../rules/rule.ts";
import { type Codec, exhaustedState, freshState, plausible, type State, STATE_VERSION } from "./state.ts";

/** What is wrong with a stored value, or odd about it. */
export type Finding =
  | { readonly kind: "other rules"; readonly theirs: string; readonly ours: string }
  | { readonly kind: "damaged"; readonly problem: string }
  | { readonly kind: "newer"; readonly version: number };

/** What a stored value says. */
export type Reading =
  | {
    readonly state: State;
    readonly finding?: Finding;
    /** Whether the state is to be written in any case: until it is, whoever reads the value begins anew. */
    readonly isToBeWritten: boolean;
  }
  /** This process does not understand it. */
  | { readonly state: undefined; readonly finding: Finding };

/** Reads what is stored under a key at the time `now`; `undefined` means that nothing is. */
export function readState(
  rules: readonly Rule[],
  codec: Codec,
  value: Uint8Array | undefined,
  now: number,
  reserveAheadMs: number,
): Reading {
  if (!value) return { state: freshState(rules, now), isToBeWritten: false };
  const decoded = plausible(rules, codec.decode(value, now), now, reserveAheadMs);
  if (decoded.kind === "newer") return { state: undefined, finding: decoded };
  // Nobody knows what was used, so everything counts as used: the limit recovers by itself and is never exceeded.
  if (decoded.kind === "damaged") {
    return { state: exhaustedState(rules, now), finding: decoded, isToBeWritten: true };
  }
  const { state, fingerprint: theirs, isNew: isToBeWritten } = decoded;
  if (theirs === codec.fingerprint) return { state, isToBeWritten };
  return { state, finding: { kind: "other rules", theirs, ours: codec.fingerprint }, isToBeWritten };
}

/** The finding in sentences that say what it means, and what to do. */
export function describe(finding: Finding): string {
  switch (finding.kind) {
    case "newer":
      return `a stored value has version ${finding.version}, and this process understands versions up to ` +
        `${STATE_VERSION}. It is left as it is. Upgrade @ratesync/core in this process.`;
    case "damaged":
      return `its stored value was damaged (${finding.problem}). It counts as used up, and recovers as time passes.`;
    case "other rules": {
      const { theirs, ours } = finding;
      return `its stored value was written by other rules (${shown(theirs)}, here ${
        shown(ours)
      }): by another process, ` +
        "or before this one was configured anew. Each process applies its own, and counts what others start: deploy " +
        "the same configuration everywhere.";
    }
  }
}
