import { checkCost, checkSignal, checkTimeout, checkUntimed } from "../arguments.ts";
import { ImpossibleCostError } from "../errors.ts";
import type { Rule } from "../rules/rule.ts";
import type { AcquireOptions } from "./result.ts";

/** What a call asks for, checked. */
export interface Wish {
  readonly cost: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** What the calls of a limiter can ask for. */
export interface Askable {
  /** What an `acquire()` without options asks for. */
  readonly plainWish: Wish;
  /** The largest cost that can ever be granted, and the rule that sets it. */
  readonly most: { readonly maximum: number; readonly rule: Rule };
}

/** The options of a call that has none. */
export const NO_OPTIONS: AcquireOptions = {};

/** What a `tryAcquire()` without options asks for. */
const AT_ONCE: Wish = { cost: 1, timeoutMs: 0, signal: undefined };

/** What a call of this limiter asks for with these options. */
export function wishOf(
  { most, plainWish }: Askable,
  limiter: { readonly id: string },
  options: AcquireOptions,
  defaultTimeoutMs: number,
): Wish {
  if (options === NO_OPTIONS) return defaultTimeoutMs === 0 ? AT_ONCE : plainWish;
  const signal = options.signal === undefined ? undefined : checkSignal(options.signal);
  if (options.timeoutMs === undefined) checkUntimed(options);
  const timeoutMs = options.timeoutMs === undefined ? defaultTimeoutMs : checkTimeout(options.timeoutMs);
  const cost = options.cost === undefined ? 1 : checkCost(options.cost);
  if (cost > most.maximum) throw new ImpossibleCostError(limiter.id, cost, most.maximum, most.rule.label);
  return { cost, timeoutMs, signal };
}
