import { createRateSync } from "../../mod.ts";
import { connectTo } from "../connection.ts";
import type { ContestantName, Job } from "./job.ts";

/** One way to take one from a limit. `key` is undefined if there is only one key. */
export type Call =
  | { readonly kind: "async"; readonly call: (key: string | undefined) => Promise<unknown> }
  | { readonly kind: "sync"; readonly call: (key: string | undefined) => unknown };

/** A limiter that is open, and ready to be called. */
export type Contestant = Call & {
  readonly name: ContestantName;
  /** Whether it does nothing before the next turn of the event loop, and so is called many times at once. */
  readonly isBatched?: boolean;
  /** Forgets everything that is stored, if that would fill the server. */
  reset?(): Promise<unknown>;
  close(): Promise<unknown>;
};

// A limit that nobody reaches: what is measured is the cost of asking.
const PLENTY = 1e9;
const HOUR_S = 3_600;
/** Fewer than there are callers, however few processes there are. */
const PERMITS = 20;
/** A machine that is busy starting many processes is not an outage. */
const BACKEND_TIMEOUT_MS = 10_000;
/** About what a limiter of ours stores. */
const VALUE = new Uint8Array(150);

type Opened = Call & Pick<Contestant, "isBatched" | "reset" | "close">;
type Open = (job: Job) => Promise<Opened>;

const nothing = () => Promise.resolve();

// Each loads only what it needs, as the process of anybody who uses it does.
const CONTESTANTS: Readonly<Record<ContestantName, Open>> = {
  "nats.acquire": async (job) => {
    const { limiter, connection, close } = await openNats(job, { ratePerSecond: PLENTY, burst: PLENTY });
    const reset = () => connection.request(`$JS.API.STREAM.PURGE.KV_${job.bucket}`);
    return {
      kind: "async",
      call: (key) => key === undefined ? limiter.acquire() : limiter.acquire({ key }),
      reset,
      close,
    };
  },

  "nats.refused": async (job) => {
    const { limiter, close } = await openNats(job, { ratePerSecond: 1 / HOUR_S });
    await limiter.tryAcquire();
    return { kind: "async", call: () => limiter.tryAcquire().then(mustBeRefused), close };
  },

  "nats.permits": async (job) => {
    const { limiter, close } = await openNats(job, { maxConcurrent: PERMITS });
    const call = async () => await (await limiter.acquire()).release();
    return { kind: "async", call, close };
  },

  "kv.update": async (job) => {
    const { kv, connection } = await openKv(job);
    let revision = await kv.put("raw", VALUE);
    return {
      kind: "async",
      call: async () => revision = await kv.update("raw", VALUE, revision),
      close: () => connection.close(),
    };
  },

  "kv.put": async (job) => {
    const { kv, connection } = await openKv(job);
    const reset = () => connection.request(`$JS.API.STREAM.PURGE.KV_${job.bucket}`);
    return { kind: "async", call: (key) => kv.put(`raw.${key}`, VALUE), reset, close: () => connection.close() };
  },

  "redis.consume": async (job) => {
    const { RateLimiterRedis } = await import("rate-limiter-flexible");
    const storeClient = await connectToRedis(job);
    const limiter = new RateLimiterRedis({ storeClient, points: PLENTY, duration: HOUR_S, keyPrefix: "bench" });
    await limiter.consume("hot");
    return { kind: "async", call: (key = "hot") => limiter.consume(key), close: () => storeClient.quit() };
  },

  "redis.refused": async (job) => {
    const { RateLimiterRedis } = await import("rate-limiter-flexible");
    const storeClient = await connectToRedis(job);
    const limiter = new RateLimiterRedis({
      storeClient,
      points: 1,
      duration: HOUR_S,
      keyPrefix: "refused",
      inMemoryBlockOnConsumed: 1,
      inMemoryBlockDuration: HOUR_S,
    });
    await limiter.consume("hot").catch(() => {});
    await limiter.consume("hot").catch(() => {});
    const refused = () => {};
    return {
      kind: "async",
      call: () => limiter.consume("hot").then(mustNotBeAllowed, refused),
      close: () => storeClient.quit(),
    };
  },

  "memory.acquire": async () => {
    const { limiter, close } = await openMemory();
    return {
      kind: "async",
      call: (key) => key === undefined ? limiter.acquire() : limiter.acquire({ key }),
      close,
    };
  },

  "memory.tryAcquire": async () => {
    const { limiter, close } = await openMemory();
    return {
      kind: "async",
      call: (key) => key === undefined ? limiter.tryAcquire() : limiter.tryAcquire({ key }),
      close,
    };
  },

  "memory.tryAcquireSync": async () => {
    const { limiter, close } = await openMemory();
    return {
      kind: "sync",
      call: (key) => key === undefined ? limiter.tryAcquireSync() : limiter.tryAcquireSync({ key }),
      close,
    };
  },

  "rlf.consume": async () => {
    const { RateLimiterMemory } = await import("rate-limiter-flexible");
    const limiter = new RateLimiterMemory({ points: PLENTY, duration: HOUR_S });
    return { kind: "async", call: (key = "hot") => limiter.consume(key), close: nothing };
  },

  "limiter.removeTokens": async () => {
    const { RateLimiter } = await import("limiter");
    const limiterOf = eachKey(() => new RateLimiter({ tokensPerInterval: PLENTY, interval: "hour" }));
    return { kind: "async", call: (key) => limiterOf(key).removeTokens(1), close: nothing };
  },

  "limiter.tryRemoveTokens": async () => {
    const { RateLimiter } = await import("limiter");
    const limiterOf = eachKey(() => new RateLimiter({ tokensPerInterval: PLENTY, interval: "hour" }));
    return { kind: "sync", call: (key) => limiterOf(key).tryRemoveTokens(1), close: nothing };
  },

  "bottleneck.schedule": async () => {
    const { default: Bottleneck } = await import("bottleneck");
    const limiterOf = eachKey(() => new Bottleneck({ reservoir: PLENTY }));
    return { kind: "async", call: (key) => limiterOf(key).schedule(nothing), isBatched: true, close: nothing };
  },
};

/** Opens a contestant. */
export async function openContestant(name: ContestantName, job: Job): Promise<Contestant> {
  return { name, ...await CONTESTANTS[name](job) };
}

type Limit = { ratePerSecond: number; burst?: number } | { maxConcurrent: number };

async function openNats(job: Job, limit: Limit) {
  const connection = await connectTo(job.natsUrl ?? "");
  const rateSync = createRateSync();
  rateSync.configureStore("nats", {
    engine: "nats",
    connection,
    bucketName: job.bucket ?? "bench",
    replicas: job.replicas ?? 1,
    backendTimeoutMs: BACKEND_TIMEOUT_MS,
    autoCreate: true,
  });
  rateSync.configureLimiter("hot", { store: "nats", onFailure: "closed", ...limit });
  await rateSync.initializeLimiter("hot");
  const close = async () => {
    await rateSync.close();
    await connection.close();
  };
  return { limiter: rateSync.getLimiter("hot"), connection, close };
}

async function connectToRedis(job: Job) {
  const { Redis } = await import("ioredis");
  return new Redis(job.redisPort ?? 0, "127.0.0.1");
}

async function openKv(job: Job) {
  const { Kvm } = await import("@nats-io/kv");
  const connection = await connectTo(job.natsUrl ?? "");
  return { connection, kv: await new Kvm(connection).open(job.bucket ?? "bench") };
}

async function openMemory() {
  const rateSync = createRateSync();
  rateSync.configureLimiter("hot", { ratePerSecond: PLENTY, burst: PLENTY });
  await rateSync.initializeLimiter("hot");
  return { limiter: rateSync.getLimiter("hot"), close: () => rateSync.close() };
}

/** These peers have one object for each key. */
function eachKey<T>(create: () => T): (key: string | undefined) => T {
  const only = create();
  const all = new Map<string, T>();
  return (key) => {
    if (key === undefined) return only;
    let one = all.get(key);
    if (one === undefined) all.set(key, one = create());
    return one;
  };
}

function mustBeRefused({ allowed }: { readonly allowed: boolean }): void {
  if (allowed) mustNotBeAllowed();
}

function mustNotBeAllowed(): never {
  throw new Error("a request was allowed that had to be refused");
}
