import { assertEquals, assertRejects } from "@std/assert";
import { readFile } from "node:fs/promises";
import { StoreUnavailableError } from "../../src/core/errors.ts";
import { createRateSync } from "../../src/registry/registry.ts";
import { resetLimiter } from "../../src/testing/reset.ts";
import { forEachServer } from "../support/nats_server.ts";
import { freshBucket, PATIENT_MS, testStore } from "../support/nats_store.ts";
import { resetSuite } from "./reset_suite.ts";

await forEachServer((server) => {
  for (const partitions of [1, 3]) {
    const where = partitions === 1 ? "" : `, ${partitions} buckets`;
    resetSuite(`nats-server ${server.version}${where}`, async () => {
      const { url } = await server.shared();
      const place = { url, bucketName: freshBucket(), partitions, autoCreate: true, storage: "memory" } as const;
      const options = { ...place, backendTimeoutMs: PATIENT_MS };
      const store = testStore(options);
      await store.open();
      return {
        options: { engine: "nats", ...options },
        kv: store.kv,
        [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
      };
    });
  }

  server.test("a reset needs the permission that the README says, and an error says which one is missing [ERR-5]", async () => {
    const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
    const users = /^authorization \{\n(?:.*\n)*?^\}\n/m.exec(readme)![0]; // else the server would not start
    const [further] = /\$JS\.API\.STREAM\.PURGE\.\S+(?=`)/.exec(readme)!;
    for (const isAllowed of [true, false]) {
      const config = isAllowed ? users.replaceAll("publish: [", `publish: ["${further}"`) : users;
      await using running = await server.start({ config });
      await using rateSync = createRateSync();
      const url = running.url.replace("nats://", "nats://ratesync-setup:secret@");
      rateSync.configureStore("nats", { engine: "nats", url, autoCreate: true, backendTimeoutMs: PATIENT_MS });
      rateSync.configureLimiter("api", { store: "nats", ratePerSecond: 0.001 });
      assertEquals((await rateSync.tryAcquire("api")).allowed, true);
      if (isAllowed) await resetLimiter("api", { rateSync });
      else await assertRejects(() => resetLimiter("api", { rateSync }), StoreUnavailableError, further);
      assertEquals((await rateSync.tryAcquire("api")).allowed, isAllowed);
    }
  });
});
