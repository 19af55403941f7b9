import { messageOf } from "../../core/cause.ts";
import type { Clock, ClockReading } from "../../core/clock.ts";
import { ConfigValidationError, StoreUnavailableError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import type { Peers } from "../../core/peers.ts";
import type { Store } from "../../core/store/store.ts";
import { systemClock } from "../system_clock.ts";
import { NATS_DEFAULTS } from "./defaults.ts";
import type { NatsKv } from "./kv.ts";
import type { OpenedNats } from "./open.ts";
import type { NatsConnectionLike, NatsStoreOptions } from "./options.ts";
import type { ConnectionPlan } from "./plan.ts";

/**
 * What `natsStore` needs besides its options.
 *
 * @example
 * ```ts
 * import type { NatsStoreContext } from "@ratesync/core";
 *
 * const quiet = () => {};
 * const context: Partial<NatsStoreContext> = {
 *   id: "nats",
 *   logger: { debug: quiet, info: quiet, warn: console.warn, error: console.error },
 * };
 * console.log(context.id);
 * ```
 */
export interface NatsStoreContext {
  /** The id of the store, which its errors and log lines name. */
  readonly id: string;
  /** Where to report. */
  readonly logger: Logger;
  /**
   * This host's clock. It sleeps, and with `clock: "local"` it also tells the time. The default is {@link systemClock}.
   */
  readonly clock?: Clock | undefined;
}

/**
 * A store on a NATS JetStream Key-Value bucket.
 *
 * @example
 * ```ts
 * import type { NatsStore } from "@ratesync/core";
 *
 * const describe = (store: NatsStore) => `nats-server ${store.serverVersion ?? "unknown"}, ± ${store.readClock().errorMs} ms`;
 * console.log(typeof describe);
 * ```
 */
export interface NatsStore extends Store {
  /** The server's time, or this host's with `clock: "local"`. */
  readonly clock: Clock;
  /** How exactly this process knows the server's time. */
  readClock(): ClockReading;
  /** Whether {@link Store.open} has succeeded and {@link Store.close} was not called. */
  readonly isOpen: boolean;
  /** The version of the server, once the store is open. */
  readonly serverVersion: string | undefined;
  /** Whether its buckets let each value expire by a TTL of its own, once the store is open. */
  readonly allowMsgTtl: boolean | undefined;
  /** The connection that the store uses; opens it first. */
  connection(): Promise<NatsConnectionLike>;
}

/**
 * A store on a NATS JetStream Key-Value bucket that connects on first use. The options have been checked, and `plan`
 * says how to connect unless they contain a connection.
 */
export function createNatsStore(
  options: NatsStoreOptions,
  plan: ConnectionPlan | undefined,
  context: NatsStoreContext,
): NatsStore {
  const { id, logger, clock: local = systemClock } = context;
  const source = plan ?? options.connection!; // it has one of the two
  const timeoutMs = options.backendTimeoutMs ?? NATS_DEFAULTS.backendTimeoutMs;
  let opening: Promise<OpenedNats> | undefined;
  let opened: OpenedNats | undefined;
  // kept after a close, because a clock never goes back
  let clock: OpenedNats["clock"];
  let closing: Promise<void> | undefined;
  /** What an opening in progress waits for. */
  let waitsFor: string | undefined;

  function closedError(): StoreUnavailableError {
    return new StoreUnavailableError("it was closed. Configure it again, or make another one.", {
      store: id,
      outcome: "not_applied",
    });
  }

  async function connect(): Promise<OpenedNats> {
    // loaded here, so that only a store in use loads the NATS client
    const { openNats } = await import("./open.ts").catch((cause) => {
      // A broken installation is not an outage, because it does not pass.
      throw new ConfigValidationError(
        `The NATS client could not be loaded: ${messageOf(cause)}. Install the dependencies of @ratesync/core again`,
        { field: "engine", expected: "a NATS client that can be imported", received: "an import that failed" },
        { cause },
      );
    });
    const result = await openNats({
      store: id,
      source,
      domain: options.domain,
      bucket: {
        name: options.bucketName ?? NATS_DEFAULTS.bucketName,
        autoCreate: options.autoCreate ?? NATS_DEFAULTS.autoCreate,
        replicas: options.replicas ?? NATS_DEFAULTS.replicas,
        storage: options.storage ?? NATS_DEFAULTS.storage,
        ttlMs: options.bucketTtlMs ?? NATS_DEFAULTS.bucketTtlMs,
      },
      partitions: options.partitions ?? NATS_DEFAULTS.partitions,
      timeoutMs,
      serverClock: options.clock !== "local",
      local,
      logger,
      onWait: (problem) => waitsFor = problem,
    });
    if (closing !== undefined) {
      await result.close();
      throw closedError();
    }
    clock = result.clock;
    return opened = result;
  }

  function open(): Promise<OpenedNats> {
    if (closing !== undefined) return Promise.reject(closedError());
    opening ??= connect().catch((error) => {
      opening = undefined;
      throw error;
    }).finally(() => waitsFor = undefined);
    return opening;
  }

  const kv: NatsKv = {
    async get(key) {
      const { kv, refreshClock } = opened ?? await open();
      const [entry] = await Promise.all([kv.get(key), refreshClock()]);
      return entry;
    },
    compareAndSet: (key, value, expected, ttlMs) =>
      opened !== undefined
        ? opened.kv.compareAndSet(key, value, expected, ttlMs)
        : open().then(({ kv }) => kv.compareAndSet(key, value, expected, ttlMs)),
    delete: async (key) => await (await open()).kv.delete(key),
    async *keys(prefix) {
      yield* (await open()).kv.keys(prefix);
    },
    wake: async (key, onHint) => await (await open()).kv.wake(key, onHint),
    announce: (key) => opened?.kv.announce(key),
  };

  const peers: Peers = {
    serve: (address, receive) => opened?.peers.serve(address, receive) ?? (() => {}),
    ask: (address, message, timeoutMs) =>
      opened !== undefined
        ? opened.peers.ask(address, message, timeoutMs)
        : open().then(({ peers }) => peers.ask(address, message, timeoutMs)),
  };

  return {
    kv,
    peers,
    clock: {
      now() {
        opened?.lookAround?.();
        return (clock ?? local).now();
      },
      sleep: (ms, signal, isBackground) => local.sleep(ms, signal, isBackground),
    },
    readClock() {
      const now = (clock ?? local).now();
      if (options.clock === "local") {
        const errorMs = options.timingMarginMs ?? NATS_DEFAULTS.timingMarginMs;
        return { source: "host", now, offsetMs: 0, errorMs, measuredAt: null };
      }
      const { offsetMs = 0, errorMs = Infinity, measuredAt = null } = clock ?? {};
      return { source: "server", now, offsetMs, errorMs, measuredAt };
    },
    get isClockStale() {
      return opened?.clock?.isStale;
    },
    localClock: local,
    async open() {
      const { refreshClock } = await open();
      await refreshClock();
    },
    close() {
      closing ??= (async () => {
        const last = opened;
        opened = undefined;
        await (last === undefined ? opening?.then(() => {}, () => {}) : last.close());
      })();
      return closing;
    },
    get isOpen() {
      return opened !== undefined;
    },
    get retentionMs() {
      return opened?.bucket.retentionMs;
    },
    get session() {
      return opened?.session;
    },
    get problem() {
      return opened === undefined ? waitsFor : opened.problem();
    },
    get serverVersion() {
      return opened?.bucket.serverVersion;
    },
    get allowMsgTtl() {
      return opened?.bucket.allowMsgTtl;
    },
    connection: async () => (await open()).connection,
  };
}
