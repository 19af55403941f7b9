import { assert, assertEquals, assertRejects } from "@std/assert";
import { createRateSync, RateLimiterAcquisitionError, type RateSync } from "../../mod.ts";
import { laterBy } from "../support/later.ts";
import { forEachServer, type RunningServer } from "../support/nats_server.ts";
import { type LogBook, logBook } from "../support/log_book.ts";

/** What stands for a process: a registry and a connection of its own. */
function processOn({ url }: RunningServer, autoCreate = true): RateSync & { readonly log: LogBook } {
  const log = logBook();
  const rateSync = createRateSync({ logger: log });
  // In memory: a server that is started again has nothing.
  rateSync.configureStore("nats", { engine: "nats", url, autoCreate, storage: "memory", backendTimeoutMs: 20_000 });
  rateSync.configureLimiter("permits", { store: "nats", maxConcurrent: 2, onFailure: "closed", leaseMs: 60_000 });
  rateSync.configureLimiter("rate", { store: "nats", ratePerSecond: 0.001, burst: 3, onFailure: "closed" });
  return Object.assign(rateSync, { log });
}

await forEachServer((server) => {
  server.test("after the server has lost everything its limits hold again, without a restart [FAIL-3]", async () => {
    await using running = await server.start();
    await using one = processOn(running);
    await using other = processOn(running);
    for (let loss = 0; loss < 2; loss++) {
      for (let i = 0; i < 3; i++) assert((await one.tryAcquire("rate")).allowed, `${i} after ${loss} losses`);
      assertEquals((await other.tryAcquire("rate")).allowed, false);
      await running.kill("SIGKILL");
      await running.restart();
      // Who knows that nothing is left says so from memory, until it looks.
      for (const process of [one, other]) {
        assertEquals((await process.getLimiter("rate").getState()).remaining, 3);
      }
    }
    // One after another: at once, an answer that comes too late may cost what it granted.
    const allowed: boolean[] = [];
    for (const process of [one, other, one, other]) allowed.push((await process.tryAcquire("rate")).allowed);
    assertEquals(allowed, [true, true, true, false]);
    assertEquals((await one.getLimiter("rate").getState()).remaining, 0);
  });

  server.test("a bucket that was lost while nobody asked for the time is created again before anything is decided [FAIL-3, NATS-2]", async () => {
    await using running = await server.start();
    await using process = processOn(running);
    assert((await process.tryAcquire("rate")).allowed);
    await running.kill("SIGKILL");
    await running.restart();
    using _ = laterBy(10_000);
    for (let i = 0; i < 3; i++) assertEquals((await process.tryAcquire("rate")).allowed, true);
    assertEquals((await process.tryAcquire("rate")).allowed, false);
    assert(process.log.lines.filter((line) => line.includes("created the KV bucket")).length === 2, "it was not lost");
  });

  server.test("a server that counts its revisions anew is not taken for the one that it was [FAIL-3]", async () => {
    await using running = await server.start();
    await using idle = processOn(running);
    await using busy = processOn(running);
    // Revisions 1 and 2, after which nothing is held.
    const permit = await idle.acquire("permits");
    await permit.release();
    await busy.initializeLimiter("permits");
    await running.kill("SIGKILL");
    await running.restart();
    // Revisions 1 and 2 again, after which everything is held.
    const held = [await busy.acquire("permits"), await busy.acquire("permits")];
    assertEquals((await idle.tryAcquire("permits")).allowed, false);
    assertEquals(held.map(({ lost }) => lost), [false, false]);
    assertEquals((await busy.getLimiter("permits").getState()).currentUsage, 2);
  });

  server.test("without auto_create a bucket that is gone stays gone, and the error says so [NATS-2]", async () => {
    await using running = await server.start();
    await using creator = processOn(running);
    await using process = processOn(running, false);
    await creator.initializeLimiter("rate");
    assert((await process.tryAcquire("rate")).allowed);
    await running.kill("SIGKILL");
    await running.restart();
    const failure = await assertRejects(
      () => process.acquire("rate"),
      RateLimiterAcquisitionError,
      "KV bucket 'rate_limits' not found",
    );
    assert(failure instanceof RateLimiterAcquisitionError);
    assertEquals(failure.reason, "backend");
  });
});
