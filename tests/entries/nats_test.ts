import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { createRateSync } from "../../mod.ts";
import { createLimiter, natsStore } from "../../src/entries/nats.ts";
import { forEachServer, LIMIT } from "../support/nats_server.ts";
import { logBook } from "../support/log_book.ts";
import { connectionOf, PATIENT_MS, testStore } from "../support/nats_store.ts";

await forEachServer((server) => {
  test(
    `nats-server ${server.version}: createLimiter() on a connection of the caller's shares the limit of a registry`,
    LIMIT,
    async () => {
      const { url } = await server.shared();
      await using owner = testStore({ url });
      const connection = await connectionOf(owner);
      const patient = { backendTimeoutMs: PATIENT_MS };
      const bucket = { bucketName: "entries", autoCreate: true, storage: "memory", ...patient } as const;
      const store = natsStore({ connection, ...bucket }, { id: "mine", logger: logBook() });
      const options = { ratePerSecond: 0.001, burst: 2, maxConcurrent: 2 };
      await using alone = createLimiter("api", store, options); // opens the store with its first use
      await using rateSync = createRateSync({ logger: logBook() });
      rateSync.configureStore("nats", { engine: "nats", url, ...bucket });
      rateSync.configureLimiter("api", { store: "nats", ...options });

      const permit = await alone.acquire();
      assertEquals(permit.degraded, false);
      assertEquals((await rateSync.tryAcquire("api")).allowed, true);
      assertEquals((await alone.tryAcquire()).allowed, false);
      assertEquals((await alone.getState()).remaining, 0);

      await alone.close();
      await store.close();
      assertEquals(connection.isClosed(), false);
    },
  );
});
