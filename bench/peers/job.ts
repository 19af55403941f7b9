/**
 * What is measured, and how: `nats.*` and `memory.*` are ours, `kv.*` is the raw client of NATS, the others are peers.
 */
export type ContestantName =
  | "nats.acquire"
  | "nats.refused"
  | "nats.permits"
  | "kv.update"
  | "kv.put"
  | "redis.consume"
  | "redis.refused"
  | "memory.acquire"
  | "memory.tryAcquire"
  | "memory.tryAcquireSync"
  | "rlf.consume"
  | "limiter.removeTokens"
  | "limiter.tryRemoveTokens"
  | "bottleneck.schedule";

/** The runtimes that are measured. */
export type Runtime = "deno" | "bun";

/** What a process does each time it is told to go. */
export interface Job {
  /** The contestants take turns within one run, so that what disturbs the machine disturbs all of them alike. */
  readonly contestants: readonly ContestantName[];
  /** How many call at the same time, each again as soon as it is answered. */
  readonly callers: number;
  /** How many keys they call with, in turn. With 1, they call the limiter itself, without a key. */
  readonly keys: number;
  /** Whether every call is timed. Calls that take less than a microsecond are only counted. */
  readonly timed: boolean;
  /** The URL of nats-server. */
  readonly natsUrl?: string;
  readonly bucket?: string;
  /** How many servers keep the bucket. */
  readonly replicas?: number;
  readonly redisPort?: number;
}

/**
 * One run: for a given time; or once for every key of the job, with keys that were never used before, to see how fast
 * that is, or how much of the heap these keys hold afterwards.
 */
export type Order =
  | { readonly kind: "time"; readonly seconds: number }
  | { readonly kind: "new keys"; readonly run: number }
  | { readonly kind: "heap"; readonly run: number };

/** What one contestant did in one run. */
export interface Outcome {
  readonly perSecond: number;
  /** How long a call took, in milliseconds; 0 if calls are not timed. */
  readonly p50: number;
  readonly p99: number;
  /** What is left in the heap for each key; 0 if that is not measured. */
  readonly heapBytes: number;
  /** Calls that failed, or did not end as they have to. */
  readonly errors: number;
}
