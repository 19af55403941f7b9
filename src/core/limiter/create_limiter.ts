import type { LimiterConfig } from "../limiter_config.ts";
import { KeyLimiter } from "./key_limiter.ts";
import { Keys } from "./keys.ts";
import type { ClosableLimiter, LimiterContext } from "./limiter.ts";
import { createShared } from "./shared.ts";

/** A limiter that opens its store on first use. */
export function createLimiter(config: LimiterConfig, context: LimiterContext): ClosableLimiter {
  const shared = createShared(config, context);
  return new KeyLimiter(shared, new Keys(shared));
}
