import type { NatsConnection } from "@nats-io/nats-core";
import type { NatsStore } from "../../src/adapters/nats/store.ts";
import { natsStore } from "../../src/standalone/nats_store.ts";
import type { NatsStoreOptions } from "../../src/adapters/nats/options.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/logger.ts";

/** A logger that keeps what it was told, as `level: message`. */
export interface LogBook extends Logger {
  readonly lines: string[];
  /** Resolves with the first line that matches, now or later. */
  heard(pattern: RegExp): Promise<string>;
}

export function logBook(): LogBook {
  const lines: string[] = [];
  const waiting = new Set<(line: string) => void>();
  const write = (level: string) => (message: string) => {
    const line = `${level}: ${message}`;
    lines.push(line);
    for (const listener of [...waiting]) listener(line);
  };
  return {
    lines,
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    heard: (pattern) =>
      new Promise((resolve) => {
        const look = (line: string) => {
          if (!pattern.test(line)) return;
          waiting.delete(look);
          resolve(line);
        };
        waiting.add(look);
        lines.forEach(look);
      }),
  };
}

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
