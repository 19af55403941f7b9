// Nothing here runs. `deno check` compiles it, and a line below `@ts-expect-error` that compiles is the failing test.
import { CompositeRateLimiter, createRateSync, type LimiterOptions, type RateSync } from "../../mod.ts";
import type { Equal, Expect } from "./expect.ts";

/** A registry that knows its ids. */
export async function typed(): Promise<void> {
  const rateSync = createRateSync({
    stores: { shared: { engine: "nats", url: "nats://localhost:4222" }, local: { engine: "memory" } },
    limiters: {
      api: { store: "shared", ratePerSecond: 100, burst: 20 },
      login: { store: "local", algorithm: "sliding_window", limit: 5, windowMs: 300_000 },
      upload: { maxConcurrent: 10 },
    },
    autoLoad: false,
  });
  type _ = Expect<Equal<typeof rateSync, RateSync<"api" | "login" | "upload", "shared" | "local">>>;

  await rateSync.acquire("api");
  // @ts-expect-error: misspelt
  await rateSync.acquire("apo");
  await rateSync.tryAcquire("login", { key: "alice" });
  // @ts-expect-error: misspelt
  await rateSync.tryAcquire("log-in", { key: "alice" });
  await rateSync.checkLimiter("upload", { consume: false });
  // @ts-expect-error: misspelt
  await rateSync.checkLimiter("uploads");
  rateSync.getLimiter("api").key("alice");
  // @ts-expect-error: misspelt
  rateSync.getLimiter("API");
  await rateSync.initializeLimiter("api");
  // @ts-expect-error: misspelt
  await rateSync.initializeLimiter("apis");
  await rateSync.getOrCloneLimiter("api", "any text");
  // @ts-expect-error: misspelt
  await rateSync.getOrCloneLimiter("apo", "any text");

  await rateSync.checkMultiLimiters(["api", { id: "login", key: "alice" }]);
  // @ts-expect-error: misspelt
  await rateSync.checkMultiLimiters(["api", "loggin"]);
  // @ts-expect-error: misspelt
  await rateSync.checkMultiLimiters([{ id: "loggin", key: "alice" }]);

  rateSync.cloneLimiter("api", "api:premium", { ratePerSecond: 500, store: "local" });
  // @ts-expect-error: misspelt
  rateSync.cloneLimiter("apo", "api:premium");
  // @ts-expect-error: no such store
  rateSync.cloneLimiter("api", "api:premium", { store: "lokal" });

  rateSync.configureLimiter("api", { store: "local", ratePerSecond: 50, replace: true });
  // @ts-expect-error: misspelt, and would be another limiter
  rateSync.configureLimiter("apo", { store: "local", ratePerSecond: 50, replace: true });
  // @ts-expect-error: no such store
  rateSync.configureLimiter("api", { store: "memory", ratePerSecond: 50, replace: true });
  rateSync.configureStore("shared", { engine: "memory", replace: true });
  // @ts-expect-error: misspelt
  rateSync.configureStore("shred", { engine: "memory" });
  // @ts-expect-error: a wrong combination
  rateSync.configureLimiter("api", { limit: 5 });

  new CompositeRateLimiter({ limiters: { ip: "api", user: "login" }, rateSync });
  // @ts-expect-error: misspelt
  new CompositeRateLimiter({ limiters: { ip: "api", user: "loggin" }, rateSync });
  const composite = new CompositeRateLimiter({ limiters: { ip: "api", user: "login" }, rateSync });
  await composite.check({ ip: "10.0.0.1", user: "alice" });
  // @ts-expect-error: the identifier of the user is missing
  await composite.check({ ip: "10.0.0.1" });
  // @ts-expect-error: no limiter has the name of the address
  await composite.check({ ip: "10.0.0.1", user: "alice", address: "" });
  const oneName: CompositeRateLimiter<"ip" | "user"> = composite;
  oneName.strategy;

  // Ids that are only known at run time are for the open type of the same registry.
  const open: RateSync = rateSync;
  await open.loadConfig("rate-sync.toml");
  await open.acquire("api:premium");
  const some: RateSync<"api"> = rateSync;
  // @ts-expect-error: it was not promised this one
  const other: RateSync<"other"> = rateSync;
  return void [some, other];
}

/** What is wrong when the registry is made. */
export function wrong(): void {
  createRateSync({
    stores: { shared: { engine: "memory" } },
    // @ts-expect-error: no such store
    limiters: { api: { store: "shred", ratePerSecond: 1 } },
  });
  createRateSync({
    stores: { shared: { engine: "memory" } },
    // @ts-expect-error: no such store
    limiters: { api: { store: "shred", algorithm: "sliding_window", limit: 5, windowMs: 1_000 } },
  });
  // @ts-expect-error: there are no stores
  createRateSync({ limiters: { api: { store: "shared", ratePerSecond: 1 } } });
  // @ts-expect-error: limits nothing
  createRateSync({ limiters: { api: {} } });
  // @ts-expect-error: both algorithms
  createRateSync({ limiters: { api: { ratePerSecond: 1, limit: 5 } } });
  // @ts-expect-error: misspelt
  createRateSync({ limiters: { api: { ratePerSecond: 1, bursts: 5 } } });
  // @ts-expect-error: no URL
  createRateSync({ stores: { shared: { engine: "nats" } } });
  // @ts-expect-error: misspelt
  createRateSync({ limiter: { api: { ratePerSecond: 1 } } });
}

/** Without stores there is only the memory of the process. */
export async function withoutStores(): Promise<void> {
  const rateSync = createRateSync({ limiters: { api: { ratePerSecond: 1 } } });
  type _ = Expect<Equal<typeof rateSync, RateSync<"api", never>>>;
  await rateSync.acquire("api");
  // @ts-expect-error: misspelt
  await rateSync.acquire("apo");
}

/** With stores alone, limiters are configured later, under any id. */
export async function withoutLimiters(): Promise<void> {
  const rateSync = createRateSync({ stores: { shared: { engine: "memory" } } });
  type _ = Expect<Equal<typeof rateSync, RateSync<string, "shared">>>;
  rateSync.configureLimiter("any", { store: "shared", ratePerSecond: 1 });
  // @ts-expect-error: no such store
  rateSync.configureLimiter("any", { store: "shred", ratePerSecond: 1 });
  await rateSync.acquire("any");
}

/** Without both it is open, as the functions of the module are. */
export async function open(limiters: Record<string, LimiterOptions>): Promise<void> {
  const rateSync = createRateSync();
  type _ = Expect<Equal<typeof rateSync, RateSync>>;
  await rateSync.acquire("any");
  const fromData = createRateSync({ limiters });
  type __ = Expect<Equal<typeof fromData, RateSync>>;
  await fromData.acquire("any");
  new CompositeRateLimiter({ limiters: { ip: "any" }, rateSync });
  new CompositeRateLimiter({ limiters: { ip: "any" } });
}

/** Ids from a file: said, and not inferred. */
export async function fromFile(): Promise<void> {
  const rateSync = createRateSync<"api" | "login">();
  await rateSync.loadConfig("rate-sync.toml");
  await rateSync.acquire("api");
  // @ts-expect-error: misspelt
  await rateSync.acquire("apo");
  const annotated: RateSync<"api"> = createRateSync({ autoLoad: true });
  // @ts-expect-error: misspelt
  await annotated.acquire("apo");
}
