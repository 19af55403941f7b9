// deno-lint-ignore-file no-console -- this is the one place that writes to the console
import type { Logger } from "../core/logger.ts";

/** Writes warnings and errors to the console, and nothing else. */
export const consoleLogger: Logger = {
  info() {},
  warn: (message) => console.warn(`ratesync: ${message}`),
  error: (message) => console.error(`ratesync: ${message}`),
};
