import { forEachServer } from "../support/nats_server.ts";
import { freshBucket, PATIENT_MS, testStore } from "../support/nats_store.ts";
import { limitsSuite } from "./limits_suite.ts";

await forEachServer((server) => {
  limitsSuite(`nats-server ${server.version}`, async () => {
    const { url } = await server.shared();
    const place = { url, bucketName: freshBucket(), autoCreate: true, storage: "memory" } as const;
    const options = { ...place, backendTimeoutMs: PATIENT_MS };
    const store = testStore(options);
    await store.open();
    return {
      options: { engine: "nats", ...options },
      kv: store.kv,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  });
});
