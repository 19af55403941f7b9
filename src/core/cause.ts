/** What was thrown, in its own words. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Why a store failed, as a sentence. */
export function sentenceOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : cause;
  if (typeof message !== "string" || message === "") return "its store failed and did not say why.";
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
