import type { Store } from "../store/store.ts";
import type { AcquireOptions } from "./result.ts";

/** Marks the calls that one caller makes to several limiters in turn. A symbol, because it concerns nobody else. */
export const TOGETHER: unique symbol = Symbol("together");

/** Several calls whose stores may be silent together for as long as one of them may be, and not each for as long. */
export interface Together {
  /** How long the caller waits for all of them, in milliseconds; 0: not at all. */
  readonly timeoutMs: number;
  /** When the first of them began, on the limiters' local clock. */
  since: number | undefined;
  /** How long their stores were silent so far, in milliseconds. */
  silentMs: number;
  /** The stores that were. */
  readonly silent: Set<Store>;
}

/** The calls of one caller, none of which has begun yet. */
export function together(timeoutMs: number): Together {
  return { timeoutMs, since: undefined, silentMs: 0, silent: new Set() };
}

/** The options of a call that may be one of several. */
export interface SharedPatience {
  readonly [TOGETHER]?: Together | undefined;
}

/** The options of a call. */
export type CallOptions = AcquireOptions & SharedPatience;
