import { createServerClock } from "../../src/adapters/nats/clock.ts";
import type { Clock } from "../../src/core/clock.ts";
import { StoreUnavailableError } from "../../src/core/errors.ts";
import type { Peers } from "../../src/core/peers.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import type { Store } from "../../src/core/store/store.ts";
import { type Answer, CLUSTER, type Cluster, type FromCluster, type Question, type ToCluster } from "./cluster.ts";
import type { Host } from "./host.ts";
import type { Network } from "./network.ts";
import { createHostPeers } from "./peers.ts";

/** How a process uses the cluster. */
export interface StoreOptions {
  /** Whose time counts. `server` measures it as the NATS adapter does. */
  readonly clock: "server" | "local";
  /** How long opening the store, and a question for the time, may take. */
  readonly timeoutMs: number;
  /** How wrong a local clock may be, in milliseconds. */
  readonly localErrorMs: number;
}

/** A store on the simulated cluster, and how wrong its clock says that it may be. */
export interface ClusterStore extends Store {
  readonly kv: Required<Omit<Kv, "loans">>;
  readonly peers: Peers;
  readonly claimedErrorMs: number;
}

/** A process's connection to the cluster: a store as the NATS adapter makes one. */
export function createClusterStore(
  host: Host,
  network: Network,
  cluster: Pick<Cluster, "session">,
  options: StoreOptions,
): ClusterStore {
  const pending = new Map<number, (answer: Answer) => void>();
  const hints = new Map<number, () => void>();
  let subscriptions = 0;
  let lastId = 0;
  let opening: Promise<void> | undefined;
  let isOpen = false;
  const peers = createHostPeers(host, network);

  network.serve(host.name, (message, from) =>
    host.deliver(() => {
      if (from !== CLUSTER) return peers.receive(message, from);
      const received = message as FromCluster; // only the cluster sends to this name
      if (received.kind === "hint") hints.get(received.id)?.();
      else {
        const resolve = pending.get(received.id);
        pending.delete(received.id);
        resolve?.(received.answer);
      }
    }));

  function send(message: ToCluster): void {
    if (host.isAlive) network.send(host.name, CLUSTER, message);
  }

  /** Waits for as long as it takes: the caller bounds it. */
  function ask(question: Question): Promise<Answer> {
    const id = ++lastId;
    return new Promise((resolve) => {
      pending.set(id, resolve);
      send({ kind: "question", id, session: cluster.session, question });
    });
  }

  function failure(what: string, outcome?: "not_applied"): StoreUnavailableError {
    return new StoreUnavailableError(what, { store: "simulated", ...(outcome ? { outcome } : {}) });
  }

  async function within<T>(promise: Promise<T>): Promise<T> {
    const over = new AbortController();
    const late = host.clock.sleep(options.timeoutMs, over.signal).then(() => {
      throw failure(`no answer within ${options.timeoutMs} ms.`);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      over.abort("answered");
      late.catch(() => {}); // Nobody waits for it any more.
    }
  }

  const serverClock = createServerClock(
    async () => {
      const before = host.monotonic();
      const answer = await within(ask({ kind: "time" }));
      const after = host.monotonic();
      return answer.kind === "time" ? { before, after, server: answer.now } : undefined;
    },
    host.clock,
    host.monotonic,
  );
  const clock: Clock = options.clock === "server" ? serverClock : host.clock;

  async function open(): Promise<void> {
    if (options.clock === "server") await within(serverClock.measure());
    isOpen = true;
  }

  function unexpected(answer: Answer): StoreUnavailableError {
    return failure(`it answered ${answer.kind}.`, answer.kind === "unavailable" ? "not_applied" : undefined);
  }

  const kv: Required<Omit<Kv, "loans">> = {
    async get(key) {
      const answer = await ask({ kind: "get", key });
      if (answer.kind === "nothing") return null;
      if (answer.kind !== "entry") throw unexpected(answer);
      return { value: answer.value, revision: answer.revision };
    },
    async compareAndSet(key, value, expected, ttlMs) {
      const answer = await ask({ kind: "write", key, value, expected, ttlMs });
      if (answer.kind === "written") return { ok: true, revision: answer.revision };
      if (answer.kind === "refused") return { ok: false };
      throw unexpected(answer);
    },
    delete: () => Promise.reject(failure("no limiter deletes.")),
    keys: () => {
      throw failure("no limiter lists keys.");
    },
    wake(key, onHint) {
      const id = ++subscriptions;
      hints.set(id, onHint);
      send({ kind: "listen", key, id });
      return Promise.resolve({
        [Symbol.asyncDispose]() {
          hints.delete(id);
          send({ kind: "unlisten", key, id });
          return Promise.resolve();
        },
      });
    },
    announce: (key) => send({ kind: "announce", key }),
  };

  return {
    kv,
    peers,
    clock,
    get claimedErrorMs() {
      return options.clock === "server" ? serverClock.errorMs : options.localErrorMs;
    },
    open() {
      if (isOpen) return Promise.resolve();
      opening ??= open().finally(() => opening = undefined);
      return opening;
    },
    close: () => Promise.resolve(),
    get session() {
      return cluster.session;
    },
  };
}
