import type { NatsConnection } from "@nats-io/nats-core";

/** A connection as anybody opens one, over the transport that a store uses here. `url`: of servers, separated by commas. */
export async function connectTo(url: string): Promise<NatsConnection> {
  const { connect } = "Deno" in globalThis
    ? await import("../src/adapters/nats/deno_transport.ts")
    : await import("@nats-io/transport-node");
  return await connect({ servers: url.split(",") });
}
