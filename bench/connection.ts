import type { NatsConnection } from "@nats-io/nats-core";

/**
 * Opens a connection the way any program does, over the transport that a store uses here. `url` names servers,
 * separated by commas.
 */
export async function connectTo(url: string): Promise<NatsConnection> {
  const { connect } = "Deno" in globalThis
    ? await import("../src/adapters/nats/deno_transport.ts")
    : await import("@nats-io/transport-node");
  return await connect({ servers: url.split(",") });
}
