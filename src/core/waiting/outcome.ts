import type { Grant, Refusal } from "../decision/batch.ts";
import type { Waiter } from "./waiter.ts";

/** How a request ended. */
export type Outcome =
  | { readonly kind: "granted"; readonly grant: Grant; readonly servedAt: number; readonly attempts: number }
  | ({ readonly kind: "refused"; readonly attempts: number } & Refusal)
  /** `silentMs`: for how long the store had been asked by then and had not answered. */
  | { readonly kind: "failed"; readonly cause: unknown; readonly silentMs: number; readonly attempts: number }
  | { readonly kind: "closed"; readonly attempts: number }
  /** Nothing is decided here any more: ask the cell that has taken the place of this one. */
  | { readonly kind: "abandoned"; readonly attempts: number };

/** The request was refused. */
export type Refused = Extract<Outcome, { readonly kind: "refused" }>;

/** The request was granted. */
export type Granted = Extract<Outcome, { readonly kind: "granted" }>;

/** The store failed the request. */
export type Failed = Extract<Outcome, { readonly kind: "failed" }>;

/** An outcome that the store's state decided. */
export type Decided = Granted | Refused;

/** Whether the store's state decided the outcome. */
export function isDecided(outcome: Outcome | undefined): outcome is Decided {
  return outcome?.kind === "granted" || outcome?.kind === "refused";
}

/** A request to a cell, with the caller that is told how it ended. */
export type Caller = Waiter<Outcome>;
