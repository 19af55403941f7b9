import { InvalidArgumentError } from "./errors.ts";

/** How a value of the caller's looks in an error message. */
export function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : String(value);
}

/** The timeout in milliseconds, if it is one; `Infinity` waits as long as it takes. */
export function checkTimeout(timeoutMs: unknown): number {
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return timeoutMs;
  throw new InvalidArgumentError(
    "A timeout cannot be negative or not a number. Use 0 for one attempt without waiting, or leave it out",
    { field: "timeoutMs", expected: "a number of milliseconds >= 0", received: shown(timeoutMs) },
  );
}

/** The cost, if it is one. */
export function checkCost(cost: unknown): number {
  if (typeof cost === "number" && Number.isFinite(cost) && cost > 0) return cost;
  throw new InvalidArgumentError("A cost must be a finite number above 0", {
    field: "cost",
    expected: "a finite number > 0",
    received: shown(cost),
  });
}

/** The identifier of a keyed limiter, if it is one. */
export function checkKey(key: unknown): string {
  if (typeof key === "string") return key;
  throw new InvalidArgumentError("A key must be text; use String(key) for a number", {
    field: "key",
    expected: "a string",
    received: shown(key),
  });
}
