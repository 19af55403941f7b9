/**
 * The NATS adapter by itself: limits in a JetStream Key-Value bucket, for callers that bring a connection or make
 * stores by hand. Everything of `@ratesync/core/limiter` is included.
 *
 * Importing it loads no NATS client. {@link natsStore} opens nothing either: the client is loaded and connects at the
 * first use of the store, or in `open()`, which shows at start-up what is wrong.
 *
 * @example A connection of your own
 * ```ts no-eval
 * import { createLimiter, natsStore } from "@ratesync/core/nats";
 * import { connect } from "@nats-io/transport-node";
 *
 * async function main(): Promise<void> {
 *   const connection = await connect({ servers: "localhost:4222" });
 *   const store = natsStore({ connection, autoCreate: true }, { id: "limits", logger: console });
 *   await store.open();
 *   console.log(`nats-server ${store.serverVersion}, clocks agree to ± ${store.readClock().errorMs} ms`);
 *
 *   const api = createLimiter("api", store, { ratePerSecond: 100, burst: 20 });
 *   await api.acquire();
 *
 *   await api.close(); // gives back what is held
 *   await store.close(); // leaves the connection open: it is yours
 *   await connection.close();
 * }
 * console.log(typeof main);
 * ```
 *
 * @example A store that connects by itself
 * ```ts
 * import { createLimiter, natsStore } from "@ratesync/core/nats";
 *
 * const store = natsStore({ url: "nats://localhost:4222", autoCreate: true }, { id: "limits", logger: console });
 * const login = createLimiter("login", store, { algorithm: "sliding_window", limit: 5, windowMs: 300_000 });
 * console.log(store.isOpen, login.initialized); // false false: nothing was opened yet
 * ```
 *
 * To give a connection to limiters with names, hand it to the registry of `@ratesync/core`:
 * `configureStore("limits", { engine: "nats", connection })`.
 *
 * @module
 */
export * from "./limiter.ts";
export type { NatsStore, NatsStoreContext } from "../adapters/nats/store.ts";
export { natsStore } from "../standalone/nats_store.ts";
export type * from "../adapters/nats/options.ts";
