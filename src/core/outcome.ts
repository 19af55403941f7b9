import type { Grant, Refusal } from "./batch.ts";
import type { Waiter } from "./waiter.ts";

/** How a request ended. */
export type Outcome =
  | { readonly kind: "granted"; readonly grant: Grant; readonly servedAt: number; readonly attempts: number }
  | ({ readonly kind: "refused"; readonly attempts: number } & Refusal)
  | { readonly kind: "failed"; readonly cause: unknown; readonly attempts: number }
  | { readonly kind: "closed"; readonly attempts: number }
  /** Nothing is decided here any more: ask the cell that has taken this one's place. */
  | { readonly kind: "abandoned"; readonly attempts: number };

/** That it was refused. */
export type Refused = Extract<Outcome, { readonly kind: "refused" }>;

/** A request to a cell, and who hears how it ended. */
export type Caller = Waiter<Outcome>;
