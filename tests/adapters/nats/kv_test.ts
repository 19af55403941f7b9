import { forEachServer } from "../../support/nats_server.ts";
import { kvSuite } from "../../support/kv_suite.ts";
import { testStore } from "../../support/nats_store.ts";

await forEachServer((server) => {
  kvSuite(`STO-3 NATS-4 NatsKv [nats-server ${server.version}]`, async () => {
    const { url } = await server.shared();
    return testStore({ url });
  });
});
