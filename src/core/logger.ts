/**
 * Where a rate limiter reports what a person on call should know. No `key`, which may identify a person, is logged at
 * `info` or above. By default warnings and errors go to the console, and the rest nowhere.
 *
 * @example
 * ```ts
 * import type { Logger } from "@ratesync/core";
 *
 * const lines: string[] = [];
 * const logger: Logger = {
 *   debug: () => {},
 *   info: () => {},
 *   warn: (message) => lines.push(message),
 *   error: (message) => lines.push(message),
 * };
 * logger.warn("store 'nats' is down");
 * console.log(lines.length); // 1
 * ```
 */
export interface Logger {
  /** Every grant, with its wait, and every refusal. Absent: nobody wants to know, which saves the time to say it. */
  debug?(message: string): void;
  /** What was configured and opened. */
  info(message: string): void;
  /** What still works but needs somebody's attention. */
  warn(message: string): void;
  /** What does not work. */
  error(message: string): void;
}

/** Reports nothing. */
export const silentLogger: Logger = { info() {}, warn() {}, error() {} };
