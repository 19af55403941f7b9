import { assert, assertEquals, assertInstanceOf, assertMatch, assertStringIncludes } from "@std/assert";
import { CompositeRateLimiter } from "../../../src/composite.ts";
import { RateLimiterAcquisitionError, StoreUnavailableError } from "../../../src/core/errors.ts";
import type { OnFailure } from "../../../src/core/limiter_config.ts";
import type { Logger } from "../../../src/core/logger.ts";
import { rateLimited } from "../../../src/rate_limited/rate_limited.ts";
import { createRateSync, type RateSync } from "../../../src/registry/registry.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { type LogBook, logBook } from "../../support/log_book.ts";
import { freshBucket } from "../../support/nats_store.ts";
import { startProxy } from "../../support/tcp_proxy.ts";

/** Short, as every call waits for it. How long calls really take is tested on a virtual clock. */
const BACKEND_TIMEOUT_MS = 150;
const MODES = ["open", "closed", "local"] as const;

interface Options {
  readonly url: string;
  readonly breakerFailures: number;
  readonly backendTimeoutMs?: number;
}

/** A registry with a limiter for each mode, and one with permits. */
function setUp(
  { url, breakerFailures, backendTimeoutMs = BACKEND_TIMEOUT_MS }: Options,
  logger?: Logger,
): RateSync & { log: LogBook } {
  const log = logBook();
  const rateSync = createRateSync({ logger: logger ?? log });
  rateSync.configureStore("nats", {
    engine: "nats",
    url,
    bucketName: freshBucket(),
    autoCreate: true,
    breakerFailures,
    breakerCoolDownMs: 100,
    breakerMaxCoolDownMs: 200,
  });
  for (const onFailure of MODES) {
    const unlimited = { ratePerSecond: 1e6, burst: 1e6, backendTimeoutMs };
    rateSync.configureLimiter(onFailure, { store: "nats", onFailure, ...unlimited });
  }
  rateSync.configureLimiter("permits", { store: "nats", ratePerSecond: 1e6, maxConcurrent: 3, leaseMs: 120_000 });
  return Object.assign(rateSync, { log });
}

/** Every way to ask. */
function callsOf(rateSync: RateSync, id: OnFailure): readonly (readonly [string, () => Promise<unknown>])[] {
  const limiter = rateSync.getLimiter(id);
  const composite = new CompositeRateLimiter({ limiters: { a: id, b: id }, strategy: "any_must_pass", rateSync });
  return [
    ["acquire()", () => limiter.acquire()],
    ["acquire(), timeout 60 s", () => limiter.acquire({ timeoutMs: 60_000 })],
    ["acquire(), timeout 0", () => limiter.acquire({ timeoutMs: 0 })],
    ["tryAcquire()", () => limiter.tryAcquire()],
    ["tryAcquire() of a key", () => limiter.tryAcquire({ key: "new" })],
    ["check(), consume: false", () => limiter.check({ consume: false })],
    ["getState()", () => limiter.getState()],
    ["checkMultiLimiters()", () => rateSync.checkMultiLimiters([id, { id, key: "k" }, { id, key: "l" }])],
    ["CompositeRateLimiter.check()", () => composite.check({ a: "1", b: "2" })],
    ["a limited function", rateLimited(id, () => Promise.resolve("done"), { rateSync })],
  ];
}

/** Asks in every way and mode; what is answered must fit the mode, and be no refusal. */
async function askInEveryWay(rateSync: RateSync): Promise<void> {
  await Promise.all(MODES.map(async (mode) => {
    for (const [name, call] of callsOf(rateSync, mode)) {
      const [outcome] = await Promise.allSettled([call()]);
      const what = `${name}, on_failure ${mode}`;
      if (outcome.status === "rejected") {
        assertEquals(mode, "closed", `${what}: ${outcome.reason}`);
        assertInstanceOf(outcome.reason, RateLimiterAcquisitionError, what);
        assertEquals(outcome.reason.reason, "backend", what);
        assertInstanceOf(outcome.reason.cause, StoreUnavailableError, what);
        continue;
      }
      assert(mode !== "closed", `${what} was answered`);
      const { value } = outcome;
      if (typeof value === "object" && value !== null && "degraded" in value) assert(value.degraded, what);
      if (typeof value === "object" && value !== null && "allowed" in value) assert(value.allowed, what);
    }
  }));
}

/** Asks until the store answers, in every mode. The test's own time limit is the only one: the machine may be busy. */
async function untilUp(rateSync: RateSync): Promise<void> {
  for (const mode of MODES) {
    const isUp = () => rateSync.tryAcquire(mode).then(({ degraded }) => !degraded, () => false);
    while (!await isUp()) await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const circuitBreaker = (rateSync: RateSync) => rateSync.listStores()["nats"]?.circuitBreaker;

async function untilOpen(rateSync: RateSync): Promise<void> {
  while (circuitBreaker(rateSync) !== "open") await rateSync.tryAcquire("open");
}

await forEachServer((server) => {
  for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
    const gone = signal === "SIGKILL" ? "a server that was killed" : "a frozen server";

    server.test(`${gone} is an outage in every mode and for every method, and no refusal [FAIL-1, FAIL-2, FAIL-5, TMO-2]`, async () => {
      await using running = await server.start();
      await using rateSync = setUp({ url: running.url, breakerFailures: 0 });
      await untilUp(rateSync);
      await running.kill(signal);
      await askInEveryWay(rateSync);
    });

    server.test(`${gone} opens the circuit breaker, and when it is back everything is as before [FAIL-2, FAIL-3]`, async () => {
      await using running = await server.start();
      await using rateSync = setUp({ url: running.url, breakerFailures: 3 });
      await untilUp(rateSync);
      const held = await rateSync.acquire("permits");
      const released = await rateSync.acquire("permits");
      await running.kill(signal);
      await untilOpen(rateSync);
      await askInEveryWay(rateSync);
      await released.release();
      if (signal === "SIGSTOP") await running.kill("SIGCONT");
      else await running.restart();
      await untilUp(rateSync);
      // The release is tried again every half second.
      while ((await rateSync.getLimiter("permits").getState()).currentUsage !== 1) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assertEquals(held.lost, false);
      const lines = rateSync.log.lines.filter((line) => /circuit breaker/.test(line) && !line.startsWith("debug"));
      assertEquals(lines.length % 2, 0, lines.join("\n"));
      assertMatch(lines[0] ?? "", /^warn: The circuit breaker of store 'nats' is open after 3 failures in a row/);
      assertMatch(lines.at(-1) ?? "", /^warn: Store 'nats' answers again: its circuit breaker is closed/);
    });
  }

  server.test("a logger that throws does not keep a store from coming back [FAIL-3]", async () => {
    await using running = await server.start();
    const fail = () => {
      throw new Error("the log is full");
    };
    await using rateSync = setUp({ url: running.url, breakerFailures: 3 }, { info: fail, warn: fail, error: fail });
    await untilUp(rateSync);
    await running.kill("SIGKILL");
    await untilOpen(rateSync);
    await running.restart();
    await untilUp(rateSync);
  });

  for (const breakerFailures of [0, 3]) {
    const how = breakerFailures === 0 ? "without a circuit breaker" : "with a circuit breaker";

    server.test(`a server that is down at the start is an outage like any other, and connects later, ${how} [FAIL-1, FAIL-2, FAIL-3]`, async () => {
      await using running = await server.start();
      await running.stop();
      // Nothing listens there, and a connection is refused at once: or as soon as a busy machine comes to it.
      await using rateSync = setUp({ url: running.url, breakerFailures, backendTimeoutMs: 5_000 });
      for (const id of ["open", "local"]) await rateSync.initializeLimiter(id);
      const [closed] = await Promise.allSettled([rateSync.initializeLimiter("closed")]);
      assert(closed.status === "rejected" && closed.reason instanceof RateLimiterAcquisitionError);
      assertStringIncludes(closed.reason.message, running.host);
      await askInEveryWay(rateSync);
      await running.restart();
      await untilUp(rateSync);
    });
  }

  server.test("a server that is frozen at the start is an outage like any other, and connects later [FAIL-1, FAIL-2, FAIL-3]", async () => {
    await using running = await server.start();
    await running.kill("SIGSTOP");
    await using rateSync = setUp({ url: running.url, breakerFailures: 3 });
    await askInEveryWay(rateSync);
    await running.kill("SIGCONT");
    await untilUp(rateSync);
  });

  server.test("a connection that ends in the moment in which it is made is tried again [FAIL-3]", async () => {
    await using running = await server.start();
    await using proxy = await startProxy(running.port);
    await using rateSync = setUp({ url: proxy.url, breakerFailures: 3, backendTimeoutMs: 1_000 });
    await untilUp(rateSync);
    // The login has succeeded, and the connection ends behind that: a login that expires at that moment does so.
    proxy.endBehind("PONG");
    proxy.cut();
    await rateSync.log.heard(/lost the connection/);
    await untilUp(rateSync);
  });

  server.test("what is wrong with the connection is said in place of no answer [ERR-4, FAIL-2]", async () => {
    await using running = await server.start();
    await using rateSync = setUp({ url: running.url, breakerFailures: 2 });
    await untilUp(rateSync);
    await running.kill("SIGKILL");
    await rateSync.log.heard(/lost the connection/);
    const causes: string[] = [];
    while (circuitBreaker(rateSync) !== "open") {
      const [{ status, ...rest }] = await Promise.allSettled([rateSync.tryAcquire("closed")]);
      assert(status === "rejected" && "reason" in rest && rest.reason.cause instanceof StoreUnavailableError);
      causes.push(rest.reason.cause.message);
    }
    for (const cause of causes) assertStringIncludes(cause, `the connection to ${running.host} is down`);
    const [{ status, ...rest }] = await Promise.allSettled([rateSync.tryAcquire("closed")]);
    assert(status === "rejected" && "reason" in rest);
    assertStringIncludes(rest.reason.message, "circuit breaker is open after 2 failures in a row");
    assertStringIncludes(rest.reason.message, `the connection to ${running.host} is down`);
  });
});
