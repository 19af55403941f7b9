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
});
