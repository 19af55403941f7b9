import { connect } from "@nats-io/transport-node";
import { assertEquals, assertLessOrEqual } from "@std/assert";
import { createRateSync } from "../../../src/registry.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { freshBucket, PATIENT_MS } from "../../support/nats_store.ts";

/** Of the clock, which is measured again now and then. */
const OTHERS = 10;

await forEachServer((server) => {
  server.test("an acquisition is one message to the server and one back, and so is a batch of 100 [TB-11]", async () => {
    const { url } = await server.shared();
    const connection = await connect({ servers: url });
    const rateSync = createRateSync();
    const place = { connection, bucketName: freshBucket(), autoCreate: true, backendTimeoutMs: PATIENT_MS };
    rateSync.configureStore("nats", { engine: "nats", ...place });
    rateSync.configureLimiter("hot", { store: "nats", ratePerSecond: 1e6, burst: 1e6, failClosed: true });
    try {
      for (let i = 0; i < 5; i++) await rateSync.acquire("hot");
      const sent = async (body: () => Promise<unknown>) => {
        const before = connection.stats();
        await body();
        const { outMsgs, inMsgs } = connection.stats();
        return Math.max(outMsgs - before.outMsgs, inMsgs - before.inMsgs);
      };
      const alone = await sent(async () => {
        for (let i = 0; i < 100; i++) await rateSync.acquire("hot");
      });
      assertLessOrEqual(alone, 100 + OTHERS);
      const together = await sent(async () => {
        for (let i = 0; i < 50; i++) await Promise.all(Array.from({ length: 100 }, () => rateSync.acquire("hot")));
      });
      // The first of each hundred may go alone, and those who come meanwhile in the next one.
      assertLessOrEqual(together, 2 * 50 + OTHERS);
      assertEquals(rateSync.getLimiter("hot").getMetrics().casFailures, 0);
    } finally {
      await rateSync.close();
      await connection.close();
    }
  });
});
