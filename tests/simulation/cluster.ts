import type { Random } from "../support/random.ts";
import { START } from "./host.ts";
import { type Mishap, type Network, shown } from "./network.ts";
import type { World } from "./world.ts";

/** The name of the cluster on the network. */
export const CLUSTER = "nats";

/** What a process asks the cluster. */
export type Question =
  | { readonly kind: "get"; readonly key: string }
  | {
    readonly kind: "write";
    readonly key: string;
    readonly value: Uint8Array;
    readonly expected: number;
    readonly ttlMs: number | undefined;
  }
  | { readonly kind: "time" };

/** What the cluster answers. */
export type Answer =
  | { readonly kind: "entry"; readonly value: Uint8Array; readonly revision: number }
  | { readonly kind: "nothing" }
  | { readonly kind: "written"; readonly revision: number }
  /** 10071: wrong last sequence. 10164: another write of the key is on its way. Both say that nothing was written. */
  | { readonly kind: "refused"; readonly code: 10_071 | 10_164 }
  /** 10008, or no responders: there is no leader at the moment, and nothing was written. */
  | { readonly kind: "unavailable" }
  | { readonly kind: "time"; readonly now: number };

/** What a process sends to the cluster. */
export type ToCluster =
  | { readonly kind: "question"; readonly id: number; readonly session: number; readonly question: Question }
  /** `id` names a subscription, because messages may overtake each other. */
  | { readonly kind: "listen" | "unlisten"; readonly key: string; readonly id: number }
  | { readonly kind: "announce"; readonly key: string };

/** What the cluster sends to a process. */
export type FromCluster =
  | { readonly kind: "answer"; readonly id: number; readonly answer: Answer }
  | { readonly kind: "hint"; readonly id: number };

/** How a cluster misbehaves. */
export interface ClusterOptions {
  /** How likely it is to refuse a write that it could accept, with 10164. */
  readonly refuses: number;
  /** How likely it is to say that it is not available. */
  readonly unavailable: number;
  /** How likely it is that a write is carried out but its answer is lost. */
  readonly silent: number;
  /** How likely it is that a write is lost before it arrives. */
  readonly deaf: number;
  /** Whether it forgets a value when its time to live is over. */
  readonly expires: boolean;
}

/** Data that was lost. */
export interface Loss {
  /** What was written after this moment is gone. */
  readonly since: number;
  readonly at: number;
}

/** A KV cluster that behaves as measured: see {@link ClusterOptions} and the methods for what can go wrong. */
export interface Cluster {
  /** Answers nothing for a while. What it is sent meanwhile is lost. */
  stop(ms: number): void;
  /** Answers nothing for a while, and then everything that it was sent. */
  freeze(ms: number): void;
  /**
   * Loses what was written within the last `ms` milliseconds, and the revisions go back. That breaks all connections:
   * what was sent on an old one is no longer carried out.
   */
  lose(ms: number): void;
  /** The number of the connection that one would have now: a different one after every loss. */
  readonly session: number;
  readonly losses: readonly Loss[];
  /** From now on nothing goes wrong any more. */
  heal(): void;
  /** What stands under a key, as text. */
  text(key: string): string | undefined;
  /** Questions that were not answered, and writes that could not be done. */
  readonly mishaps: readonly Mishap[];
}

/** What could not be written is tried again within this time, in milliseconds. */
const TRIED_AGAIN_MS = 600;

interface Version {
  readonly value: Uint8Array;
  readonly revision: number;
  readonly writtenAt: number;
  readonly expiresAt: number;
}

/** A {@link Cluster} with nothing in it, on the network. */
export function createCluster(world: World, network: Network, random: Random, options: ClusterOptions): Cluster {
  /** Everything that was written under each key, the latest last. */
  let histories = new Map<string, Version[]>();
  const listeners = new Map<string, Map<string, { readonly to: string; readonly id: number }>>();
  const losses: Loss[] = [];
  let revision = 0;
  const mishaps: Mishap[] = [];
  let stoppedUntil = -Infinity;
  let frozenUntil = -Infinity;
  let faults = options;

  function current(key: string): Version | undefined {
    const version = histories.get(key)?.at(-1);
    return version && version.expiresAt > world.now ? version : undefined;
  }

  function answer(question: Question): Answer {
    if (question.kind === "time") return { kind: "time", now: START + world.now };
    if (random.chance(faults.unavailable)) {
      mishaps.push({ at: world.now, lateMs: TRIED_AGAIN_MS });
      return { kind: "unavailable" };
    }
    const { key } = question;
    const version = current(key);
    if (question.kind === "get") {
      return version ? { kind: "entry", value: version.value, revision: version.revision } : { kind: "nothing" };
    }
    if ((version?.revision ?? 0) !== question.expected) return { kind: "refused", code: 10_071 };
    if (random.chance(faults.refuses)) return { kind: "refused", code: 10_164 };
    const history = histories.get(key) ?? [];
    histories.set(key, history);
    history.push({
      value: question.value,
      revision: ++revision,
      writtenAt: world.now,
      expiresAt: options.expires ? world.now + (question.ttlMs ?? Infinity) : Infinity,
    });
    return { kind: "written", revision };
  }

  function handle(message: ToCluster, from: string): void {
    if (message.kind === "question") {
      if (message.session !== losses.length) return;
      const isWrite = message.question.kind === "write";
      const isDeaf = isWrite && random.chance(faults.deaf);
      const isSilent = isWrite && random.chance(faults.silent);
      const heard = `${from} #${message.id} `;
      if (isDeaf || isSilent) mishaps.push({ at: world.now, lateMs: Infinity });
      if (isDeaf) return world.note(CLUSTER, () => `${heard}${shown(message.question)} is lost`);
      const reply: FromCluster = { kind: "answer", id: message.id, answer: answer(message.question) };
      world.note(CLUSTER, () => {
        const lost = isSilent ? ", which is lost" : "";
        return `${heard}${shown(message.question)} => ${shown(reply.answer)}${lost}`;
      });
      if (!isSilent) network.send(CLUSTER, from, reply);
    } else if (message.kind === "listen") {
      const { key, id } = message;
      listeners.set(key, (listeners.get(key) ?? new Map()).set(`${from} ${id}`, { to: from, id }));
    } else if (message.kind === "unlisten") listeners.get(message.key)?.delete(`${from} ${message.id}`);
    else {
      for (const { to, id } of listeners.get(message.key)?.values() ?? []) {
        const hint: FromCluster = { kind: "hint", id };
        network.send(CLUSTER, to, hint);
      }
    }
  }

  network.serve(CLUSTER, (message, from) => {
    if (world.now < stoppedUntil) return;
    const sent = message as ToCluster; // nobody else sends to the cluster
    if (world.now < frozenUntil) world.quietlyAt(frozenUntil, () => handle(sent, from));
    else handle(sent, from);
  });

  return {
    stop(ms) {
      world.note(CLUSTER, () => `is down for ${Math.round(ms)} ms`);
      stoppedUntil = world.now + ms;
    },
    freeze(ms) {
      world.note(CLUSTER, () => `is frozen for ${Math.round(ms)} ms`);
      frozenUntil = Math.max(frozenUntil, world.now + ms);
    },
    lose(ms) {
      const since = world.now - ms;
      losses.push({ since, at: world.now });
      const before = revision;
      const kept = [...histories].map(([key, versions]): [string, Version[]] => [
        key,
        versions.filter(({ writtenAt }) => writtenAt <= since),
      ]);
      histories = new Map(kept);
      revision = Math.max(0, ...kept.map(([, versions]) => versions.at(-1)?.revision ?? 0));
      world.note(CLUSTER, () => `loses everything since ${since.toFixed(3)}: revision ${before} -> ${revision}`);
    },
    losses,
    get session() {
      return losses.length;
    },
    heal() {
      faults = { ...options, refuses: 0, unavailable: 0, silent: 0, deaf: 0 };
      stoppedUntil = -Infinity;
    },
    text(key) {
      const version = current(key);
      return version && new TextDecoder().decode(version.value);
    },
    mishaps,
  };
}
