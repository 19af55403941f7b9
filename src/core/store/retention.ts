import { ConfigValidationError } from "../errors.ts";
import type { LimiterConfig } from "../limiter_config.ts";
import type { Rule } from "../rules/rule.ts";
import type { Store } from "./store.ts";

/** Refuses a store that forgets a limit before it has run out: such a store would admit too much. */
export function checkRetention(config: LimiterConfig, rules: readonly Rule[], { retentionMs }: Store): void {
  if (retentionMs === undefined) return;
  for (const { horizonMs, kind, label } of rules) {
    if (horizonMs <= retentionMs) continue;
    throw new ConfigValidationError(
      `Limiter '${config.id}' needs "${label}" to be remembered for ${horizonMs / 1_000} s, and store ` +
        `'${config.storeId}' forgets after ${retentionMs / 1_000} s. Raise the TTL of its bucket (bucket_ttl, or ` +
        `\`nats stream edit\` for an existing one), or ${kind === "rate" ? "lower the burst" : "shorten the limit"}`,
      {
        field: `limiters.${config.id}`,
        expected: `a limit that is over after ${retentionMs / 1_000} s at most`,
        received: `${horizonMs / 1_000} s`,
      },
    );
  }
}
