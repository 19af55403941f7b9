import { connect } from "@nats-io/transport-node";
import { assertEquals, assertLessOrEqual } from "@std/assert";
import { createRateSync } from "../../../src/registry/registry.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { freshBucket, PATIENT_MS } from "../../support/nats_store.ts";

/** How often it is counted: of most times, as now and then the clock is measured, or an answer comes too late. */
const TIMES = 100;

/** What most are: as many are more as are less. */
function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

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
      const total = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
      const alone: number[] = [];
      for (let i = 0; i < TIMES; i++) alone.push(await sent(() => rateSync.acquire("hot")));
      assertEquals(median(alone), 1);
      assertLessOrEqual(total(alone), 3 * TIMES);
      const together: number[] = [];
      for (let i = 0; i < TIMES / 2; i++) {
        together.push(await sent(() => Promise.all(Array.from({ length: 100 }, () => rateSync.acquire("hot")))));
      }
      // The first of each hundred may go alone, and those who come meanwhile in the next one.
      assertLessOrEqual(median(together) ?? Infinity, 2);
      assertLessOrEqual(total(together), 3 * TIMES);
      assertEquals(rateSync.getLimiter("hot").getMetrics().casFailures, 0);
    } finally {
      await rateSync.close();
      await connection.close();
    }
  });
});
