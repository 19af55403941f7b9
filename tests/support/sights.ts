import { inspect } from "node:util";

/** Everything that a person or a log could see of a value: its text, its JSON, and all that an inspector finds in it. */
export function sightsOf(value: unknown): string {
  const error = value instanceof Error ? `${value.message}\n${value.stack}\n${sightsOfCause(value)}` : "";
  return `${error}\n${inspect(value, { depth: 20, showHidden: true, getters: false })}\n${JSON.stringify(value)}`;
}

function sightsOfCause({ cause }: Error): string {
  return cause === undefined ? "" : sightsOf(cause);
}
