import type { NatsConnection } from "@nats-io/nats-core";
import type { NatsStore } from "../../src/adapters/nats/store.ts";
import { natsStore } from "../../src/standalone/nats_store.ts";
import type { NatsStoreOptions } from "../../src/adapters/nats/options.ts";
import type { Clock } from "../../src/core/clock.ts";
import { type LogBook, logBook } from "./log_book.ts";

/** A bucket name that no other test has. */
export function freshBucket(): string {
  return `b_${crypto.randomUUID().replaceAll("-", "")}`;
}

/** How long the server may take in a test that is not about that: a busy machine may take seconds. */
export const PATIENT_MS = 30_000;

/** A store that is closed at the end of the block. Unless told otherwise, it creates its own bucket, in memory. */
export function testStore(
  options: NatsStoreOptions,
  logger: LogBook = logBook(),
  clock?: Clock,
): NatsStore & AsyncDisposable & { readonly log: LogBook } {
  const ours = {
    bucketName: freshBucket(),
    autoCreate: true,
    storage: "memory",
    backendTimeoutMs: PATIENT_MS,
  } as const;
  const store = natsStore({ ...ours, ...options }, { id: "nats", logger, clock });
  return Object.defineProperties({} as NatsStore & AsyncDisposable & { readonly log: LogBook }, {
    ...Object.getOwnPropertyDescriptors(store),
    log: { value: logger },
    [Symbol.asyncDispose]: { value: () => store.close() },
  });
}

/** The connection of a store, with everything that a test needs of it. */
export async function connectionOf(store: NatsStore): Promise<NatsConnection> {
  return await store.connection() as NatsConnection; // it was opened here, with the tests' own copy of nats-core
}
