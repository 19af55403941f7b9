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

/** That it was granted. */
export type Granted = Extract<Outcome, { readonly kind: "granted" }>;

/** That the store failed it. */
export type Failed = Extract<Outcome, { readonly kind: "failed" }>;

/** How the store's state decided it. */
export type Decided = Granted | Refused;

/** Whether the store's state decided it. */
export function isDecided(outcome: Outcome | undefined): outcome is Decided {
  return outcome?.kind === "granted" || outcome?.kind === "refused";
}

/** A request to a cell, and who hears how it ended. */
export type Caller = Waiter<Outcome>;
