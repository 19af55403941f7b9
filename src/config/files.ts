import { checkMethods, checkOptions, namesOf, shown } from "../core/arguments.ts";
import { ConfigValidationError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { EnvironmentLookup } from "./environment.ts";
import { type Configuration, parseConfiguration } from "./load.ts";

/**
 * The environment variable with the path of the configuration file.
 *
 * @example
 * ```ts
 * import { CONFIGURATION_VARIABLE } from "@ratesync/core/config";
 *
 * console.log(CONFIGURATION_VARIABLE); // "RATE_SYNC_CONFIG"
 * ```
 */
export const CONFIGURATION_VARIABLE = "RATE_SYNC_CONFIG";

/**
 * Where a configuration file is looked for after {@link CONFIGURATION_VARIABLE}, in this order.
 *
 * @example
 * ```ts
 * import { CONFIGURATION_PATHS } from "@ratesync/core/config";
 *
 * console.log(CONFIGURATION_PATHS[0]); // "./rate-sync.toml"
 * ```
 */
export const CONFIGURATION_PATHS: readonly string[] = ["./rate-sync.toml", "./config/rate-sync.toml"];

/** What this module uses of `process` in Deno, Bun and Node. Other runtimes have none of it. */
interface Host {
  readonly env?: Record<string, unknown>;
  getBuiltinModule?(name: "node:fs"): typeof import("node:fs");
}

const NO_FILES =
  "This runtime has no files (Node has them from 20.16 on). Configure stores and limiters in code, or give " +
  "the text of the file to parseConfiguration() of @ratesync/core/config.";

function host(): Host {
  // A global that may be absent has no type.
  return (globalThis as { process?: Host }).process ?? {};
}

/** Loaded when needed, so that runtimes without files can import this module. */
function files(): typeof import("node:fs") | undefined {
  return host().getBuiltinModule?.("node:fs");
}

/**
 * Looks up an environment variable of this process; `undefined` if it is not set, or if this runtime has none.
 *
 * @throws {ConfigValidationError} If this process may not read it (Deno without `--allow-env`).
 *
 * @example
 * ```ts
 * import { processEnvironment } from "@ratesync/core/config";
 *
 * console.log(processEnvironment("RATESYNC_NOBODY_SET_THIS")); // undefined
 * ```
 */
export function processEnvironment(name: string): string | undefined {
  try {
    const value = host().env?.[name];
    // `toString` and the like would be found on its prototype.
    return typeof value === "string" ? value : undefined;
  } catch (cause) {
    throw new ConfigValidationError(
      `The environment variable ${name} cannot be read. In Deno, allow it with --allow-env=${name}.`,
      { field: name, expected: "a variable that may be read", received: "no permission" },
      { cause },
    );
  }
}

/**
 * The options of {@link findConfigurationFile}.
 *
 * @example
 * ```ts
 * import type { FindConfigurationFileOptions } from "@ratesync/core/config";
 *
 * const options: FindConfigurationFileOptions = { logger: console, mustLook: true };
 * console.log(options.mustLook); // true
 * ```
 */
export interface FindConfigurationFileOptions {
  /** Receives a warning if `RATE_SYNC_CONFIG` names a file that does not exist. */
  readonly logger: Logger;
  /** Looks up environment variables. The default: those of this process. */
  readonly environment?: EnvironmentLookup | undefined;
  /**
   * Whether being unable to look is an error: because this runtime has no files, or this process may not read them.
   *
   * @default {false}
   */
  readonly mustLook?: boolean | undefined;
}

const FIND_NAMES = namesOf<FindConfigurationFileOptions>({ logger: true, environment: true, mustLook: true });

/**
 * Finds the configuration file: the one that `RATE_SYNC_CONFIG` names, else `./rate-sync.toml`, else
 * `./config/rate-sync.toml`. The first that exists counts; files are not merged.
 *
 * @returns Its path, or `undefined` if there is none, which is not an error.
 * @throws {ConfigValidationError} With `mustLook`, if this runtime has no files, or no file was found and this process
 * may not look everywhere. Without it, these cases count as if there were no file, and what is forbidden is warned
 * about.
 * @throws {InvalidArgumentError} If the options are wrong.
 *
 * @example
 * ```ts
 * import { findConfigurationFile } from "@ratesync/core/config";
 *
 * const path = findConfigurationFile({ logger: console, environment: () => undefined });
 * console.log(path); // "./rate-sync.toml", or undefined
 * ```
 */
export function findConfigurationFile(options: FindConfigurationFileOptions): string | undefined {
  const checked = checkOptions(options, FIND_NAMES, "an object with logger");
  const { environment = processEnvironment, mustLook = false } = checked;
  const logger = checkMethods(checked.logger, "logger", "logger", "warn");
  if (mustLook && !files()) throw refuse(CONFIGURATION_PATHS.join(" or "), NO_FILES);
  const { value: named, problem } = readVariable(environment, logger, mustLook);
  if (named !== undefined && named !== "") {
    // readConfiguration() explains why a file that exists cannot be read.
    if (lookAt(named) !== "absent") return named;
    logger.warn(
      `${CONFIGURATION_VARIABLE} names '${named}', which does not exist; looking for rate-sync.toml instead.`,
    );
  }
  let hidden: string | undefined;
  for (const path of CONFIGURATION_PATHS) {
    const sight = lookAt(path);
    if (sight === "there") {
      if (problem !== undefined) logger.warn(`${problem} Without it, ${path} is taken.`);
      return path;
    }
    if (sight !== "forbidden") continue;
    hidden ??= path;
    if (!mustLook) logger.warn(whyHidden(path));
  }
  if (mustLook && hidden !== undefined) throw refuse(hidden, whyHidden(hidden));
  if (problem !== undefined) logger.warn(`${problem} Without it, no configuration file was found.`);
  return undefined;
}

function whyHidden(path: string): string {
  return `Cannot look for ${path}: in Deno, allow it with --allow-read=${path}.`;
}

/** The variable's value, or why it could not be read. */
function readVariable(
  environment: EnvironmentLookup,
  logger: Logger,
  mustLook: boolean,
): { readonly value?: string | undefined; readonly problem?: string } {
  try {
    return { value: environment(CONFIGURATION_VARIABLE) };
  } catch (error) {
    if (mustLook) throw error;
    // Programs that configure everything in code need no permission for this.
    const problem = error instanceof ConfigValidationError ? error.problem : String(error);
    logger.debug?.(`${CONFIGURATION_VARIABLE} is not considered: ${problem}`);
    return { problem };
  }
}

function lookAt(path: string): "there" | "absent" | "forbidden" {
  const fileSystem = files();
  if (!fileSystem) return "absent";
  try {
    fileSystem.statSync(path);
    return "there";
  } catch (error) {
    const code = codeOf(error);
    if (code === "EACCES" || code === "EPERM") return "there";
    return code === "NotCapable" ? "forbidden" : "absent";
  }
}

/**
 * The options of {@link readConfiguration}.
 *
 * @example
 * ```ts
 * import type { ReadConfigurationOptions } from "@ratesync/core/config";
 *
 * const options: ReadConfigurationOptions = { environment: () => undefined, knownStores: ["nats"] };
 * console.log(options.knownStores); // ["nats"]
 * ```
 */
export interface ReadConfigurationOptions {
  /** Looks up environment variables. The default: those of this process. */
  readonly environment?: EnvironmentLookup | undefined;
  /** The stores that are configured already; limiters of the file may name them too. */
  readonly knownStores?: Iterable<string> | undefined;
}

/**
 * Reads a configuration file.
 *
 * @param path Its path, relative to the current directory if it is not absolute.
 * @throws {ConfigValidationError} If there is no such file, it cannot be read, this runtime has no files, or anything
 * in the file is wrong.
 *
 * @example
 * ```ts
 * import { ConfigValidationError, readConfiguration } from "@ratesync/core/config";
 *
 * try {
 *   readConfiguration("./no-such-file.toml");
 * } catch (error) {
 *   if (error instanceof ConfigValidationError) console.log(error.field); // "config_file"
 * }
 * ```
 */
export function readConfiguration(
  path: string,
  { environment = processEnvironment, knownStores }: ReadConfigurationOptions = {},
): Configuration {
  if (typeof path !== "string" || path === "") {
    throw refuse(path, "The path of the configuration file must be a text that is not empty.");
  }
  return parseConfiguration(readText(path), { file: path, environment, knownStores });
}

function readText(path: string): string {
  const fileSystem = files();
  if (!fileSystem) throw refuse(path, NO_FILES);
  let bytes: Uint8Array;
  try {
    bytes = fileSystem.readFileSync(path);
  } catch (cause) {
    throw refuse(path, whyUnreadable(path, cause), cause);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refuse(path, "Failed to parse TOML file: it is not UTF-8. Save it as UTF-8.", cause);
  }
}

function whyUnreadable(path: string, error: unknown): string {
  switch (codeOf(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return `Configuration file not found: ${path}. Create it, or correct the path.`;
    case "EISDIR":
      return `The configuration file cannot be read: ${path} is a directory. Give the path of the file in it.`;
    case "EACCES":
    case "EPERM":
      return `The configuration file cannot be read: ${path}. Give this process the permission to read it.`;
    case "NotCapable":
      return `The configuration file cannot be read: ${path}. Allow it with --allow-read=${path}.`;
    default:
      return `The configuration file cannot be read: ${path}.`;
  }
}

function refuse(path: unknown, message: string, cause?: unknown): ConfigValidationError {
  const mismatch = {
    field: "config_file",
    expected: "a TOML file that can be read",
    received: typeof path === "string" ? path : shown(path),
  };
  return new ConfigValidationError(message, mismatch, cause === undefined ? undefined : { cause });
}

/** Node's code of an error, such as `ENOENT`, or its name, such as Deno's `NotCapable`. */
function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}
