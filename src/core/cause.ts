/** What went wrong, as a sentence. */
export function messageOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : cause;
  if (typeof message !== "string" || message === "") return "its store failed and did not say why.";
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
