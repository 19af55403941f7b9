/**
 * Reads `rate-sync.toml`: finds the file, expands environment variables and turns the text into checked options. It
 * applies nothing; `loadConfig` of `@ratesync/core` reads the file and applies it.
 *
 * Use it where there are no files, such as in a worker runtime; to check a file before it is deployed; or to read it
 * from somewhere else. Only {@link readConfiguration}, {@link findConfigurationFile} and {@link processEnvironment}
 * touch the host. Where it has no files, they say so with a {@link ConfigValidationError}.
 *
 * @example A worker without files: the text comes with the program, the variables from its bindings
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 * import { parseConfiguration } from "@ratesync/core/config";
 *
 * const text = `
 * [stores.main]
 * engine = "memory"
 *
 * [limiters.api]
 * store = "main"
 * rate_per_second = "\${RATE:-100}"
 * burst = 20
 * `;
 * const bindings: Record<string, string> = { RATE: "50" };
 *
 * const rateSync = createRateSync();
 * const { stores, limiters, warnings } = parseConfiguration(text, { environment: (name) => bindings[name] });
 * for (const warning of warnings) console.warn(warning);
 * for (const [id, options] of stores) rateSync.configureStore(id, options);
 * for (const [id, options] of limiters) rateSync.configureLimiter(id, options);
 * console.log(rateSync.getLimiter("api").getConfig().ratePerSecond); // 50
 * ```
 *
 * @example Everything that is wrong says where
 * ```ts
 * import { ConfigValidationError, parseConfiguration } from "@ratesync/core/config";
 *
 * try {
 *   parseConfiguration('[stores.main]\nengin = "memory"', { file: "rate-sync.toml", environment: () => undefined });
 * } catch (error) {
 *   if (error instanceof ConfigValidationError) console.log(error.field, error.file); // "stores.main.engine" "rate-sync.toml"
 * }
 * ```
 *
 * @example A check before deployment: reads the file as the first use would
 * ```ts
 * import { findConfigurationFile, readConfiguration } from "@ratesync/core/config";
 *
 * const path = findConfigurationFile({ logger: console });
 * if (path !== undefined) console.log(`${path} names ${readConfiguration(path).limiters.size} limiters`);
 * ```
 *
 * @module
 */
export * from "../config/files.ts";
export * from "../config/load.ts";
export { type EnvironmentLookup, type ExpandedDocument, expandEnvironment } from "../config/environment.ts";
export { parseToml, type TomlTable, type TomlValue } from "../config/toml.ts";
export { ConfigValidationError, type Mismatch, RateLimiterError } from "../core/errors.ts";
export type * from "../adapters/nats/options.ts";
export type * from "../config/options.ts";
export type * from "../core/clock.ts";
export type { CallBack, CasResult, Kv, KvEntry, Loans } from "../core/store/kv.ts";
export type * from "../core/peers.ts";
export type { Algorithm, OnFailure, RateSpec } from "../core/limiter_config.ts";
export type { Logger } from "../core/logger.ts";
