import { checkMethods } from "./arguments.ts";

/**
 * Where a rate limiter reports what a person on call should know. No `key`, which may identify a person, is logged at
 * `info` or above. By default warnings and errors go to the console, and the rest nowhere. What a method throws is
 * ignored: a log that fails changes nothing about a limit.
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
  /**
   * Every grant, with its wait, and every refusal. Leave it out if nobody wants to know, which saves the time for
   * building the messages.
   */
  readonly debug?: ((message: string) => void) | undefined;
  /** What was configured and opened. */
  info(message: string): void;
  /** What still works but needs somebody's attention; and that it is over. */
  warn(message: string): void;
  /** What does not work. */
  error(message: string): void;
}

/** Reports nothing. */
export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

/** The logger, but what it throws is ignored: a granted permit would otherwise be lost on the way to its holder. */
export function neverThrowing(logger: Logger): Logger {
  const quietly = (log: (message: string) => unknown) => (message: string) => {
    try {
      const logged = log(message);
      if (logged instanceof Promise) logged.catch(() => {});
    } catch {
      // There is nowhere to report that a report failed.
    }
  };
  return {
    ...(logger.debug && { debug: quietly((message) => logger.debug?.(message)) }),
    info: quietly((message) => logger.info(message)),
    warn: quietly((message) => logger.warn(message)),
    error: quietly((message) => logger.error(message)),
  };
}

/** A logger that passes on to `first`, or to the one that it was replaced with since. */
export function createReplaceableLogger(
  first: Logger,
): { readonly logger: Logger; readonly setLogger: (next: Logger) => void } {
  let current = checked(first);
  return {
    logger: {
      get debug() {
        return current.debug;
      },
      info: (message) => current.info(message),
      warn: (message) => current.warn(message),
      error: (message) => current.error(message),
    },
    setLogger: (next) => void (current = checked(next)),
  };
}

function checked(logger: Logger): Logger {
  return neverThrowing(checkMethods(logger, "logger", "logger", "info", "warn", "error"));
}
