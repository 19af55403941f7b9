import { Kvm } from "@nats-io/kv";
import { type RunningCluster, startCluster } from "../../tests/support/nats_server.ts";
import { connectTo } from "../connection.ts";

const READY_TIMEOUT_MS = 60_000;

/** Three servers that have elected their leader and keep buckets on all of them. */
export async function startReadyCluster(): Promise<RunningCluster> {
  const cluster = await startCluster(3);
  const connection = await connectTo(cluster.url);
  try {
    const until = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      try {
        await new Kvm(connection).create("ready", { replicas: 3 });
        return cluster;
      } catch (error) {
        if (performance.now() > until) {
          await cluster[Symbol.asyncDispose]();
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  } finally {
    await connection.close();
  }
}
