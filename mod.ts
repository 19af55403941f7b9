/**
 * A distributed rate limiter.
 *
 * @module
 */
export * from "./src/core/errors.ts";
export type * from "./src/core/clock.ts";
export type * from "./src/core/kv.ts";
export type * from "./src/core/logger.ts";
export type * from "./src/core/store.ts";
export type * from "./src/core/limiter_config.ts";
export type * from "./src/config/options.ts";
export type * from "./src/adapters/nats/options.ts";
