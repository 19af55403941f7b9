import { DEFAULTS, STORE_DEFAULTS } from "../../core/limiter/defaults.ts";
import type { NatsBucketOptions } from "./options.ts";

/** The values of options that a NATS store is not given. */
export const NATS_DEFAULTS = {
  bucketName: "rate_limits",
  partitions: 1,
  autoCreate: false,
  replicas: 1,
  storage: "file",
  bucketTtlMs: 86_400_000,
  retryIntervalMs: STORE_DEFAULTS.retryIntervalMs,
  maxRetries: STORE_DEFAULTS.maxRetries,
  timingMarginMs: DEFAULTS.timingMarginMs,
  backendTimeoutMs: DEFAULTS.backendTimeoutMs,
  clock: "server",
} as const satisfies NatsBucketOptions;
