// Nothing here runs. `deno check` compiles it, and a line below `@ts-expect-error` that compiles is the failing test.
import type {
  FailureOptions,
  Kv,
  LimiterOptions,
  LimiterOverrides,
  NatsConnectionLike,
  NatsStoreOptions,
  OnFailure,
  RateSpec,
  StoreOptions,
} from "../../mod.ts";
import type { Equal, Expect } from "./expect.ts";

declare const connection: NatsConnectionLike;
declare const kv: Kv;
/** As `process.env` gives it. */
declare const fromEnvironment: string | undefined;
declare const onFailure: OnFailure;
declare const flag: boolean;

export const limitersThatAreRight: LimiterOptions[] = [
  { ratePerSecond: 100 },
  { ratePerSecond: 100, burst: 20, maxConcurrent: 5, leaseMs: 1_000, timeoutMs: 5, algorithm: "token_bucket" },
  { maxConcurrent: 5 },
  { rates: [{ limit: 10, windowMs: 1_000 }, { limit: 1_000, windowMs: 3_600_000, burst: 50 }] },
  { rates: [{ limit: 10, windowMs: 1_000, algorithm: "sliding_window" }], maxConcurrent: 3 },
  { algorithm: "sliding_window", limit: 5, windowMs: 300_000 },
  { algorithm: "sliding_window", limit: 5, windowMs: 300_000, maxConcurrent: 2 },
  { algorithm: "sliding_window", limit: 5, windowMs: 3, rates: [{ limit: 10, windowMs: 1_000 }] },
  { algorithm: "sliding_window", limit: 5, windowMs: 3, rates: [{ limit: 10, windowMs: 1_000, burst: 2 }] },
  {
    algorithm: "sliding_window",
    limit: 5,
    windowMs: 3,
    rates: [{ limit: 10, windowMs: 1_000, burst: 2, algorithm: "token_bucket" }],
  },
  { ratePerSecond: 1, failClosed: true },
  { ratePerSecond: 1, failClosed: flag },
  { ratePerSecond: 1, onFailure },
  { maxConcurrent: 1, onFailure },
  { rates: [{ limit: 1, windowMs: 1 }], onFailure },
  { algorithm: "sliding_window", limit: 1, windowMs: 1, onFailure },
  { maxConcurrent: 1, onFailure: flag ? onFailure : undefined },
  { maxConcurrent: 1, failClosed: flag },
  { ratePerSecond: 1, failClosed: true, onFailure: "closed" },
  { ratePerSecond: 1, failClosed: false, onFailure: "local" },
  // An option that is `undefined` is not given, as in JavaScript.
  { ratePerSecond: 1, burst: undefined, limit: undefined, onFailure: undefined },
];

/** What limits nothing. */
export const limitersOfNothing: LimiterOptions[] = [
  // @ts-expect-error: nothing at all
  {},
  // @ts-expect-error: what belongs to every limiter alone limits nothing
  { timeoutMs: 5_000, store: "nats" },
  // @ts-expect-error: a burst is how much of a rate may come at once
  { burst: 5 },
  // @ts-expect-error: a burst beside permits
  { maxConcurrent: 5, burst: 5 },
  // @ts-expect-error: a lease is how long permits last
  { leaseMs: 1_000 },
  // @ts-expect-error: the rate is absent
  { ratePerSecond: undefined },
];

/** What belongs to two algorithms. */
export const limitersOfBoth: LimiterOptions[] = [
  // @ts-expect-error: a window without a limit
  { algorithm: "sliding_window", windowMs: 1_000 },
  // @ts-expect-error: a limit without a window
  { algorithm: "sliding_window", limit: 5 },
  // @ts-expect-error: a sliding window by its rate
  { algorithm: "sliding_window", ratePerSecond: 5 },
  // @ts-expect-error: a limit and a window without saying that it slides
  { limit: 5, windowMs: 1_000 },
  // @ts-expect-error: a rate and a limit
  { ratePerSecond: 5, limit: 5 },
  // @ts-expect-error: a rate and a window
  { ratePerSecond: 5, limit: 5, windowMs: 1_000 },
  // @ts-expect-error: both algorithms at once
  { algorithm: "sliding_window", limit: 5, windowMs: 1_000, ratePerSecond: 5 },
  // @ts-expect-error: a window has no burst
  { algorithm: "sliding_window", limit: 5, windowMs: 1_000, burst: 5 },
  // @ts-expect-error: a token bucket by limit and window
  { algorithm: "token_bucket", limit: 5, windowMs: 1_000 },
  // @ts-expect-error: no algorithm of this package
  { algorithm: "leaky_bucket", ratePerSecond: 5 },
  // @ts-expect-error: a rate that slides has no burst
  { rates: [{ limit: 1, windowMs: 1, burst: 2, algorithm: "sliding_window" }] },
  // @ts-expect-error: a rate needs its window
  { rates: [{ limit: 1 }] },
];

/** What contradicts itself when the store is down, is misspelt, or has another type. */
export const limitersThatAreWrong: LimiterOptions[] = [
  // @ts-expect-error: closed and open
  { ratePerSecond: 1, failClosed: true, onFailure: "open" },
  // @ts-expect-error: closed and local
  { ratePerSecond: 1, failClosed: true, onFailure: "local" },
  // @ts-expect-error: not closed and closed
  { ratePerSecond: 1, failClosed: false, onFailure: "closed" },
  // @ts-expect-error: perhaps closed and closed
  { ratePerSecond: 1, failClosed: flag, onFailure: "closed" },
  // @ts-expect-error: no mode of this package
  { ratePerSecond: 1, onFailure: "ajar" },
  // @ts-expect-error: misspelt
  { ratePerSecnd: 1 },
  // @ts-expect-error: misspelt beside what is right
  { ratePerSecond: 1, tiemoutMs: 1 },
  // @ts-expect-error: TOML's name
  { rate_per_second: 1 },
  // @ts-expect-error: TOML's name beside what is right
  { ratePerSecond: 1, max_concurrent: 1 },
  // @ts-expect-error: text
  { ratePerSecond: "1" },
  // @ts-expect-error: null belongs to overrides
  { ratePerSecond: 1, burst: null },
];

/** The ids of stores, where they are known. */
export const limitersOnStores: LimiterOptions<"nats" | "memory">[] = [
  { store: "nats", ratePerSecond: 1 },
  { ratePerSecond: 1 },
  { store: "memory", algorithm: "sliding_window", limit: 5, windowMs: 1_000 },
  // @ts-expect-error: no such store
  { store: "natz", ratePerSecond: 1 },
  // @ts-expect-error: no such store
  { store: "natz", algorithm: "sliding_window", limit: 5, windowMs: 1_000 },
];

export const overrides: LimiterOverrides<"nats">[] = [
  { store: "nats", ratePerSecond: null, maxConcurrent: 5 },
  { store: null },
  // @ts-expect-error: no such store
  { store: "natz" },
  // @ts-expect-error: misspelt
  { ratePerSecnd: 1 },
];

export const storesThatAreRight: StoreOptions[] = [
  { engine: "memory" },
  { engine: "memory", replace: true },
  { engine: "nats", url: "nats://localhost:4222", autoCreate: true, bucketName: "b", replace: true },
  { engine: "nats", url: "nats://localhost:4222", token: fromEnvironment },
  { engine: "nats", url: "nats://localhost:4222", user: fromEnvironment, password: fromEnvironment },
  { engine: "nats", url: "nats://localhost:4222", credentialsFile: "nats.creds", tlsCaFile: "ca.pem" },
  { engine: "nats", url: "nats://localhost:4222", nkeySeedFile: "seed", tlsCertFile: "c.pem", tlsKeyFile: "k.pem" },
  { engine: "nats", connection, autoCreate: true },
  { kv },
  { kv, clock: { now: () => 0, sleep: () => Promise.resolve() } },
];

export const storesThatAreWrong: StoreOptions[] = [
  // @ts-expect-error: no engine
  {},
  // @ts-expect-error: no engine
  { url: "nats://localhost:4222" },
  // @ts-expect-error: no engine of this package
  { engine: "redis", url: "redis://localhost" },
  // @ts-expect-error: memory takes no options
  { engine: "memory", url: "nats://localhost:4222" },
  // @ts-expect-error: memory takes no options
  { engine: "memory", bucketName: "b" },
  // @ts-expect-error: memory has its own
  { engine: "memory", kv },
  // @ts-expect-error: neither a URL nor a connection
  { engine: "nats" },
  // @ts-expect-error: a URL that may be missing
  { engine: "nats", url: fromEnvironment },
  // @ts-expect-error: a URL and a connection
  { engine: "nats", url: "nats://localhost:4222", connection },
  // @ts-expect-error: a connection has logged in already
  { engine: "nats", connection, token: "t" },
  // @ts-expect-error: a connection has its certificates already
  { engine: "nats", connection, tlsCaFile: "ca.pem" },
  // @ts-expect-error: a token and a user
  { engine: "nats", url: "nats://localhost:4222", token: "t", user: "u", password: "p" },
  // @ts-expect-error: two files with credentials
  { engine: "nats", url: "nats://localhost:4222", credentialsFile: "f", nkeySeedFile: "f" },
  // @ts-expect-error: a user without a password
  { engine: "nats", url: "nats://localhost:4222", user: "u" },
  // @ts-expect-error: a password without a user
  { engine: "nats", url: "nats://localhost:4222", password: "p" },
  // @ts-expect-error: a certificate without its key
  { engine: "nats", url: "nats://localhost:4222", tlsCertFile: "c.pem" },
  // @ts-expect-error: misspelt
  { engine: "nats", url: "nats://localhost:4222", bucket: "b" },
  // @ts-expect-error: no storage of NATS
  { engine: "nats", url: "nats://localhost:4222", storage: "disk" },
  // @ts-expect-error: a store of one's own has no URL
  { kv, url: "nats://localhost:4222" },
  // @ts-expect-error: a connection is no Kv
  { kv: connection },
];

/** A limiter's options can be read without knowing which kind it is. */
export function readable(options: LimiterOptions): (number | undefined)[] {
  if (options.algorithm === "sliding_window") {
    const sure: number[] = [options.limit, options.windowMs];
    return sure;
  }
  return [options.ratePerSecond, options.burst, options.maxConcurrent];
}

/** `engine` tells which kind of store it is. */
export function narrowing(options: StoreOptions): unknown {
  if (options.engine === "memory") return options;
  if (options.engine === undefined) return options.kv.get("key");
  return options.connection === undefined ? options.url.length : options.connection.isClosed();
}

export type Cases = [
  Expect<Equal<NonNullable<FailureOptions["onFailure"]>, OnFailure>>,
  Expect<Equal<LimiterOptions, LimiterOptions<string>>>,
  Expect<Equal<LimiterOptions<"a">["store"], "a" | undefined>>,
  Expect<Equal<Extract<NatsStoreOptions, { connection: NatsConnectionLike }>["url"], undefined>>,
  Expect<Equal<Extract<RateSpec, { algorithm: "sliding_window" }>["burst"], undefined>>,
];
