import { resolveLimiter } from "../../src/core/limiter/defaults.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { Peers } from "../../src/core/peers.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createLimiter } from "../../src/core/limiter/create_limiter.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import { limiterContext } from "../support/limiter_context.ts";
import type { Random } from "../support/random.ts";
import type { Cluster } from "./cluster.ts";
import { createHost, type Host, type HostOptions, START } from "./host.ts";
import type { Network } from "./network.ts";
import { optionsOf, type Scenario } from "./scenario.ts";
import { createClusterStore } from "./store.ts";
import { RETRY_MS } from "./waiting.ts";
import type { World } from "./world.ts";

/** What is put between a limiter and the world, to see whether a mistake there would be found. */
export interface Sabotage {
  readonly kv?: (kv: Required<Omit<Kv, "loans">>, host: Host) => Required<Omit<Kv, "loans">>;
  readonly clock?: (clock: Clock, host: Host) => Clock;
  readonly limiter?: (limiter: ClosableLimiter, host: Host) => ClosableLimiter;
}

/** How far the clock of a process was ahead of the truth: the least and the most that it ever was. */
export interface ClockError {
  readonly leastMs: number;
  readonly mostMs: number;
  /** How much further off it was than it said itself. */
  readonly unclaimedMs: number;
}

/** What a process has sent that somebody has to answer. */
export interface Traffic {
  /** Reads of the store. */
  readonly reads: number;
  readonly writes: number;
  /** Questions to other processes. */
  readonly questions: number;
}

/** A process with its limiters. */
export interface Process {
  readonly name: string;
  readonly host: Host;
  /** The scenario as its settings have it. */
  readonly scenario: Scenario;
  /** The limiters, in the order of the scenario. */
  readonly limiters: readonly ClosableLimiter[];
  /** What its limiters take for the time. */
  now(): number;
  readonly clockError: ClockError;
  readonly traffic: Traffic;
  readonly warnings: readonly string[];
}

/** Starts a process of the scenario. */
export function startProcess(
  world: World,
  network: Network,
  cluster: Cluster,
  random: Random,
  scenario: Scenario,
  name: string,
  machine: HostOptions,
  { kv = (same) => same, clock = (same) => same, limiter = (same) => same }: Sabotage = {},
): Process {
  const host = createHost(world, random.fork(), name, machine);
  network.place(name, machine.distanceMs ?? 0);
  const store = createClusterStore(host, network, cluster, {
    clock: scenario.clock,
    timeoutMs: scenario.backendTimeoutMs,
    localErrorMs: scenario.timingMarginMs / 2,
  });
  const warnings: string[] = [];
  let leastMs = Infinity;
  let mostMs = -Infinity;
  let unclaimedMs = 0;
  let claimedMs = 0;

  function watched(clock: Clock): Clock {
    return {
      now() {
        const now = clock.now();
        if (store.claimedErrorMs === Infinity) return now;
        const errorMs = now - START - world.now;
        leastMs = Math.min(leastMs, errorMs);
        mostMs = Math.max(mostMs, errorMs);
        // A clock that never goes back may still be where an earlier measurement put it.
        claimedMs = Math.max(claimedMs, store.claimedErrorMs);
        unclaimedMs = Math.max(unclaimedMs, Math.abs(errorMs) - claimedMs);
        return now;
      },
      sleep: (ms, signal) => clock.sleep(ms, signal),
    };
  }

  const traffic = { reads: 0, writes: 0, questions: 0 };
  const countedKv: typeof store.kv = {
    ...store.kv,
    get(key) {
      traffic.reads++;
      return store.kv.get(key);
    },
    compareAndSet(key, value, expected, ttlMs) {
      traffic.writes++;
      return store.kv.compareAndSet(key, value, expected, ttlMs);
    },
  };
  const { peers } = store;
  const countedPeers: Peers = {
    ...peers,
    ask(address, message, timeoutMs) {
      traffic.questions++;
      return peers.ask(address, message, timeoutMs);
    },
  };

  // What sabotage makes of the clock is not the clock itself, so the watch stands in front of the sabotage.
  const used = {
    ...store,
    get session() {
      return store.session;
    },
    peers: scenario.handsOver ? countedPeers : undefined,
    kv: kv(countedKv, host),
    clock: clock(watched(store.clock), host),
  };
  const limiters = scenario.limiters.map((plan, number) => {
    const config = resolveLimiter(plan.id, optionsOf(plan, scenario.backendTimeoutMs), {
      backendTimeoutMs: scenario.backendTimeoutMs,
    });
    const context = limiterContext(config, {
      name: `${name}~${number}`,
      store: used,
      localClock: host.clock,
      random: random.fork().next,
      retryIntervalMs: RETRY_MS,
      timingMarginMs: scenario.timingMarginMs,
      breaker: { failures: scenario.breakerFailures },
      mostAtOnce: scenario.mostAtOnce,
      onWarning: (message) => warnings.push(message),
    });
    return limiter(createLimiter(config, context), host);
  });

  return {
    name,
    host,
    scenario,
    limiters,
    now: used.clock.now,
    get clockError() {
      return { leastMs, mostMs, unclaimedMs };
    },
    traffic,
    warnings,
  };
}
