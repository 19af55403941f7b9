import { seededRandom } from "../../src/testing/random.ts";

/** Decisions that are the same for the same seed. */
export interface Random {
  /** A number from 0 to 1, without 1. */
  next(): number;
  /** A number from `low` to `high`. */
  between(low: number, high: number): number;
  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number;
  /** Whether something with this probability happens. */
  chance(probability: number): boolean;
  pick<const T>(choices: readonly [T, ...T[]]): T;
  /** A separate source: what is drawn from it changes nothing here. */
  fork(): Random;
}

/** A {@link Random} for a seed. Only arithmetic that is exact on every runtime: no logarithms. */
export function createRandom(seed: number): Random {
  const next = seededRandom(seed);
  const integer = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    integer,
    between: (low, high) => low + next() * (high - low),
    chance: (probability) => next() < probability,
    pick: (choices) => choices[integer(0, choices.length - 1)] ?? choices[0],
    fork: () => createRandom(integer(0, 2 ** 32 - 1)),
  };
}
