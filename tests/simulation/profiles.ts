import type { Random } from "../support/random.ts";
import type { ClusterOptions } from "./cluster.ts";
import type { HostOptions } from "./host.ts";
import type { Conditions } from "./network.ts";
import type { Trouble } from "./scenario.ts";

type Choices<T> = readonly [T, ...T[]];

/** What is drawn for the scenarios of a kind: how bad the network and the clocks are, what happens, and who calls. */
export interface ProfilePlan {
  readonly clock: "server" | "local";
  /** Which troubles can happen, and at most how many of them do. */
  readonly troubles: readonly Trouble["kind"][];
  readonly mostTroubles: number;
  readonly conditions: (random: Random) => Conditions;
  readonly cluster: (random: Random) => ClusterOptions;
  readonly host: (random: Random, timingMarginMs: number) => HostOptions;
  /** `patient` callers only wait, so the whole limit has to be used; a `crowd` is many of them on one key. */
  readonly callers: "mixed" | "patient" | "crowd";
  /** How likely a caller in a crowd is to want as much as the limit admits at once. */
  readonly largeCosts: number;
  /** How likely a caller is to change its mind. */
  readonly regrets: number;
  readonly limits: Choices<"rate" | "window" | "concurrency" | "all" | "some">;
  readonly leaseMs: Choices<number>;
  readonly reserveAheadMs: Choices<number>;
  readonly backendTimeoutMs: Choices<number>;
  readonly holdMs: Choices<number>;
}

/** A network in which nothing goes wrong. */
export const QUICK: Conditions = { leastMs: 0.05, mostMs: 0.5, loss: 0, duplicates: 0, late: 0, lateMs: 0 };

const quick = (random: Random): Conditions => ({ ...QUICK, mostMs: random.pick([0.2, 1, 3]) });
const slow = (random: Random): Conditions => ({
  ...QUICK,
  leastMs: random.pick([0.1, 5, 30]),
  mostMs: random.pick([35, 60, 90]),
  late: random.pick([0, 0.02]),
  lateMs: 300,
});
const lossy = (random: Random): Conditions => ({
  leastMs: 0.05,
  mostMs: random.pick([0.5, 3, 20]),
  loss: random.pick([0, 0.01, 0.05, 0.2]),
  duplicates: random.pick([0, 0.1, 0.3]),
  late: random.pick([0, 0.05, 0.2]),
  lateMs: random.pick([20, 300, 1_500]),
});

const healthy = (random: Random): ClusterOptions => ({
  refuses: 0,
  unavailable: 0,
  silent: 0,
  deaf: 0,
  expires: random.chance(0.5),
});
const moody = (random: Random): ClusterOptions => ({
  ...healthy(random),
  refuses: random.pick([0, 0.02, 0.2]),
  unavailable: random.pick([0, 0, 0.01, 0.1]),
});

/**
 * The server's time is measured, so the wall clock may say anything. A clock that is being corrected drifts by up to
 * 500 ppm.
 */
const anyHost = (random: Random): HostOptions => ({
  skewMs: random.pick([0, random.between(-300, 300), random.between(-3_600_000, 3_600_000)]),
  driftPpm: random.pick([0, random.between(-500, 500)]),
  timerLateMs: random.pick([0.1, 1.2, 4]),
});

/** Hosts whose clocks are trusted: a time service keeps them within half of the timing margin. */
const trustedHost = (random: Random, timingMarginMs: number): HostOptions => ({
  skewMs: random.between(-timingMarginMs / 2, timingMarginMs / 2),
  driftPpm: 0,
  timerLateMs: random.pick([0.1, 1.2, 4]),
});

/** Hosts whose timers are late by less than any rule allows, so that no slot is missed. */
const promptHost = (random: Random): HostOptions => ({ ...anyHost(random), timerLateMs: random.pick([0.1, 0.5, 1.2]) });

const CALM: ProfilePlan = {
  clock: "server",
  troubles: ["look"],
  mostTroubles: 2,
  conditions: quick,
  cluster: healthy,
  host: anyHost,
  callers: "mixed",
  largeCosts: 0,
  regrets: 0.2,
  limits: ["rate", "rate", "window", "concurrency", "concurrency", "all", "some"],
  leaseMs: [500, 1_000, 3_000],
  reserveAheadMs: [0, 200, 1_000],
  backendTimeoutMs: [200, 400, 2_000],
  holdMs: [0, 0, 3, 20, 100, 900],
};

const STEADY: ProfilePlan = {
  ...CALM,
  troubles: [],
  host: promptHost,
  callers: "patient",
  regrets: 0,
  reserveAheadMs: [200, 1_000],
};

/** What can go wrong in a scenario, in a word. */
export type Profile =
  | "calm"
  | "steady"
  | "crowd"
  | "scattered"
  | "costs"
  | "regrets"
  | "slow"
  | "lossy"
  | "acknowledgements"
  | "outages"
  | "deaths"
  | "leases"
  | "amnesia"
  | "local"
  | "everything";

/** The plans of all kinds of scenarios. */
export const profiles: Readonly<Record<Profile, ProfilePlan>> = {
  calm: CALM,
  /** Everybody waits for as long as it takes: nothing of the limit is wasted. */
  steady: STEADY,
  /** Hundreds on one key: nobody is starved. */
  crowd: { ...STEADY, callers: "crowd", holdMs: [0, 5, 30] },
  /** The same, near the store and far from it: a process that is far away is not starved either. */
  scattered: {
    ...STEADY,
    callers: "crowd",
    host: (random) => ({ ...promptHost(random), distanceMs: random.pick([0, 0, 2, 10]) }),
    backendTimeoutMs: [2_000],
    holdMs: [0, 5, 30],
  },
  /** Some callers of a crowd want much, and the others do not take it from them for ever. */
  costs: { ...STEADY, callers: "crowd", limits: ["rate"], largeCosts: 0.1, regrets: 0.1 },
  /** Slots are reserved and given back all the time. */
  regrets: { ...STEADY, regrets: 0.5, limits: ["rate", "rate", "window", "all"] },
  slow: { ...CALM, conditions: slow, troubles: ["look", "step"] },
  lossy: { ...CALM, conditions: lossy, cluster: moody, troubles: ["look", "storm"], mostTroubles: 4 },
  /** Answers are lost, but writes are not: nothing is counted twice because of that. */
  acknowledgements: {
    ...STEADY,
    cluster: (random) => ({
      ...healthy(random),
      silent: random.pick([0.02, 0.1]),
      deaf: random.pick([0, 0.05]),
    }),
    limits: ["rate", "rate", "window", "concurrency", "some"],
    reserveAheadMs: [1_000],
    backendTimeoutMs: [200],
  },
  outages: { ...CALM, cluster: moody, troubles: ["look", "cut", "stop", "freeze", "storm"], mostTroubles: 5 },
  deaths: { ...CALM, troubles: ["pause", "crash", "close", "pause", "crash", "cut"], mostTroubles: 6 },
  /** Permits are held for longer than their leases, by processes that stop and are cut off. */
  leases: {
    ...CALM,
    troubles: ["pause", "cut", "crash"],
    mostTroubles: 8,
    regrets: 0,
    limits: ["concurrency"],
    leaseMs: [300, 500],
    holdMs: [100, 900, 2_000],
  },
  amnesia: { ...CALM, troubles: ["look", "lose", "lose", "pause"], mostTroubles: 3 },
  local: { ...CALM, clock: "local", host: trustedHost, troubles: ["look", "step", "pause", "crash"], mostTroubles: 3 },
  everything: {
    ...CALM,
    conditions: lossy,
    cluster: moody,
    troubles: ["look", "step", "pause", "cut", "crash", "close", "storm", "stop", "freeze", "lose"],
    mostTroubles: 8,
  },
};

/** The names of all kinds of scenarios. */
export const PROFILES = Object.keys(profiles) as [Profile, ...Profile[]]; // the keys of a record, all of them
