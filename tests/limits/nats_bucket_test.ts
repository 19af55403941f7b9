import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ConfigValidationError, createRateSync, type LimiterOptions, type RateSync } from "../../mod.ts";
import { forEachServer } from "../support/nats_server.ts";
import { logBook } from "../support/log_book.ts";
import { connectionOf, freshBucket, PATIENT_MS, testStore } from "../support/nats_store.ts";

/** A registry with the store `nats`. */
function registryOn(url: string, options: { readonly bucketName?: string; readonly bucketTtlMs?: number }): RateSync {
  const rateSync = createRateSync({ logger: logBook() });
  const place = { url, autoCreate: true, storage: "memory", backendTimeoutMs: PATIENT_MS } as const;
  rateSync.configureStore("nats", { engine: "nats", ...place, ...options });
  return rateSync;
}

await forEachServer((server) => {
  server.test("a limiter on NATS has a configuration, a state and a sliding window [STA-2, STA-3, STA-9, NATS-9, SW-5]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using here = registryOn(url, { bucketName });
    await using elsewhere = registryOn(url, { bucketName });
    for (const rateSync of [here, elsewhere]) {
      rateSync.configureLimiter("login", {
        store: "nats",
        algorithm: "sliding_window",
        limit: 3,
        windowMs: 60_000,
        maxConcurrent: 2,
        failClosed: true,
      });
    }
    const limiter = here.getLimiter("login");
    const config = limiter.getConfig();
    const { storeId, algorithm, limit, windowMs, maxConcurrent, failClosed } = config;
    assertEquals([storeId, algorithm, limit, windowMs, maxConcurrent, failClosed], [
      "nats",
      "sliding_window",
      3,
      60_000,
      2,
      true,
    ]);
    const permit = await limiter.acquire();
    assertEquals(limiter.getConfig(), config);
    const state = await elsewhere.getLimiter("login").getState();
    assertEquals([state.allowed, state.remaining, state.currentUsage], [true, 1, 1]);
    await permit.release();
    assertEquals((await elsewhere.getLimiter("login").getState()).remaining, 2);
  });

  server.test("all limiters of a store, their clones and keys share one connection [STO-2, STO-7]", async () => {
    await using running = await server.start({ config: 'http: "127.0.0.1:-1"\n' });
    const monitor = /http monitor on (\S+)/.exec(running.log())?.[1];
    await using rateSync = registryOn(running.url, {});
    for (const id of ["a", "b", "c"]) rateSync.configureLimiter(id, { store: "nats", ratePerSecond: 100, burst: 9 });
    rateSync.cloneLimiter("a", "clone");
    await Promise.all(["a", "b", "c", "clone"].flatMap((id) => [
      rateSync.acquire(id),
      rateSync.acquire(id, { key: "user@example.com" }),
      rateSync.getOrCloneLimiter(id, "other"),
      rateSync.getLimiter(id).getState(),
    ]));
    const { num_connections } = await (await fetch(`http://${monitor}/connz`)).json() as { num_connections: number };
    assertEquals(num_connections, 1);
  });

  server.test("a limit that the bucket would forget too soon is refused when the limiter is opened [NATS-5]", async () => {
    const { url } = await server.shared();
    await using rateSync = registryOn(url, { bucketName: freshBucket(), bucketTtlMs: 10_000 });
    const limiters: Record<string, LimiterOptions> = {
      window: { algorithm: "sliding_window", limit: 5, windowMs: 10_001 },
      rate: { ratePerSecond: 1 / 30 },
      burst: { ratePerSecond: 10, burst: 101 },
      further: { ratePerSecond: 100, rates: [{ limit: 5, windowMs: 60_000, algorithm: "sliding_window" }] },
    };
    for (const [id, options] of Object.entries(limiters)) {
      rateSync.configureLimiter(id, { ...options, store: "nats" });
      for (const use of [() => rateSync.initializeLimiter(id), () => rateSync.acquire(id)]) {
        const error = await assertRejects<ConfigValidationError>(use, ConfigValidationError, `Limiter '${id}' needs`);
        assertEquals([error.field, error.expected], [`limiters.${id}`, "a limit that is over after 10 s at most"]);
        assertStringIncludes(error.message, "store 'nats' forgets after 10 s");
      }
    }
    rateSync.configureLimiter("fits", { store: "nats", algorithm: "sliding_window", limit: 5, windowMs: 10_000 });
    await rateSync.acquire("fits");
  });

  server.test("a slow limiter keeps its interval in a bucket that a fast one created [NATS-5, NATS-8]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using rateSync = registryOn(url, { bucketName });
    rateSync.configureLimiter("fast", { store: "nats", ratePerSecond: 100 });
    rateSync.configureLimiter("slow", { store: "nats", ratePerSecond: 1 / 30 });
    await rateSync.acquire("fast");
    assertEquals((await rateSync.tryAcquire("slow")).allowed, true);
    await using store = testStore({ url, bucketName });
    const connection = await connectionOf(store);
    const ask = async (subject: string, body: unknown) => {
      const api = `$JS.API.${subject}.KV_${bucketName}`;
      const answer = await connection.request(api, JSON.stringify(body), { timeout: PATIENT_MS });
      return answer.json<{ config?: { max_age: number }; message?: { hdrs: string } }>();
    };
    const { config } = await ask("STREAM.INFO", {});
    assertEquals(config?.max_age, 86_400 * 1e9);
    const secondsOf = async (id: string) => {
      // What lives for two seconds is looked at when it has just been written.
      if (id === "fast") await rateSync.acquire(id);
      const { message } = await ask("STREAM.MSG.GET", { last_by_subj: `$KV.${bucketName}.${id}` });
      return Number(/Nats-TTL: (\d+)s/.exec(atob(message?.hdrs ?? ""))?.[1]);
    };
    if (!store.allowMsgTtl) return assertEquals([await secondsOf("slow"), await secondsOf("fast")], [NaN, NaN]);
    // Its own time to live begins with the write, and is over when the value does not matter any more.
    assertGreaterOrEqual(await secondsOf("slow"), 30);
    assert(await secondsOf("fast") <= 2);
  });

  server.test("the bucket is rate_limits by default, and no key in it is one of rate-sync's [NATS-7, CLN-5]", async () => {
    await using running = await server.start();
    await using rateSync = registryOn(running.url, {});
    const ids = ["api", "rate_limit", "rate_limit.api", "rate_limit.api.rate"];
    for (const id of ids) {
      // So slow that none of them expires during the test.
      rateSync.configureLimiter(id, { store: "nats", ratePerSecond: 0.001 });
      await rateSync.acquire(id);
      for (const key of ["api.rate", "api.concurrent", "user@example.com", "*", ">"]) {
        await rateSync.acquire(id, { key });
      }
    }
    await using store = testStore({ url: running.url, bucketName: "rate_limits" });
    const keys = await Array.fromAsync(store.kv.keys());
    assertEquals(keys.length, ids.length * 6);
    assertEquals(keys.filter((key) => /^rate_limit\.[^.]+\.(rate|concurrent)$/.test(key)), []);
    assert(keys.includes("api"));
    for (const key of keys) assertMatch(key, /^[\w=-]+(\.[\w=-]+)?$/);
  });
});
