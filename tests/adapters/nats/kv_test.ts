import { forEachServer } from "../../support/nats_server.ts";
import { kvSuite } from "../../support/kv_suite.ts";
import { testStore } from "../../support/nats_store.ts";

await forEachServer((server) => {
  kvSuite(`NatsKv [nats-server ${server.version}] [STO-3, NATS-4]`, async () => {
    const { url } = await server.shared();
    return testStore({ url });
  });
  kvSuite(`NatsKv in 3 buckets [nats-server ${server.version}] [STO-3, NATS-4]`, async () => {
    const { url } = await server.shared();
    return testStore({ url, partitions: 3 });
  });
});
