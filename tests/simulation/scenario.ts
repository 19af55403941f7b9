import { STORE_DEFAULTS } from "../../src/core/limiter/defaults.ts";
import type { LimiterSettings } from "../../src/core/limiter/defaults.ts";
import type { OnFailure } from "../../src/core/limiter_config.ts";
import { createRandom, type Random } from "../support/random.ts";
import type { ClusterOptions } from "./cluster.ts";
import type { HostOptions } from "./host.ts";
import type { Conditions } from "./network.ts";
import { type Profile, type ProfilePlan, PROFILES, profiles } from "./profiles.ts";
import { unusual } from "./unusual.ts";

/** What a limiter limits. Several rates and windows may stand together. */
export interface Limits {
  readonly rates: readonly { readonly ratePerSecond: number; readonly burst: number }[];
  readonly windows: readonly { readonly limit: number; readonly windowMs: number }[];
  readonly maxConcurrent: number | undefined;
}

/** A limiter that every process has. */
export interface LimiterPlan extends Limits {
  readonly id: string;
  readonly leaseMs: number;
  readonly reserveAheadMs: number;
  /** How many slots a process may take ahead; 0 if there are other limits than rates. */
  readonly prefetch: number;
  readonly onFailure: OnFailure;
}

/** A call of a program that uses a limiter. */
export interface CallPlan {
  readonly kind: "call";
  readonly process: number;
  readonly limiter: number;
  readonly key: string | undefined;
  readonly cost: number;
  /** How long it waits; 0 means not at all. */
  readonly timeoutMs: number;
  /** After how many milliseconds it changes its mind. */
  readonly abortAfterMs: number;
  /** How long it works, once it has started. */
  readonly holdMs: number;
  /** With `take back` it is granted and then given back unused, as a check of several limiters does. */
  readonly method: "acquire" | "tryAcquire" | "take back";
  /** Whether it tries again when the store has failed. */
  readonly insists: boolean;
}

/** Something that happens to a process, to the cluster or between them. */
export type Trouble =
  | { readonly kind: "look"; readonly process: number; readonly limiter: number }
  | { readonly kind: "pause" | "cut"; readonly process: number; readonly ms: number }
  | { readonly kind: "crash"; readonly process: number; readonly backAfterMs: number }
  | { readonly kind: "close"; readonly process: number; readonly backAfterMs: number }
  | { readonly kind: "step"; readonly process: number; readonly ms: number }
  | {
    readonly kind: "storm";
    readonly process: number;
    readonly ms: number;
    readonly worse: Partial<Conditions>;
  }
  | { readonly kind: "stop" | "freeze" | "lose"; readonly ms: number };

/** What happens when. */
export type Step = (CallPlan | Trouble) & { readonly at: number };

/** How many times as much: whole numbers, so that all can grant what somebody asks for. */
export interface Times {
  /** How many times the rates, the windows and the permits. */
  readonly amount: number;
  /** How many times the bursts. */
  readonly burst: number;
}

/**
 * How the settings of a process differ from those of the others, as while a new configuration is being deployed: it has
 * so much of each.
 */
export interface Variant {
  readonly limits: Times;
  readonly reserveAhead: number;
  readonly lease: number;
  readonly prefetch: number;
  readonly backendTimeout: number;
}

/** Everything that a run is about. A plain value, which the seed alone decides. */
export interface Scenario {
  readonly seed: number;
  readonly profile: Profile;
  /** Whether it has settings that hardly anybody chooses. */
  readonly isUnusual: boolean;
  readonly clock: "server" | "local";
  readonly hosts: readonly HostOptions[];
  readonly limiters: readonly LimiterPlan[];
  readonly conditions: Conditions;
  readonly cluster: ClusterOptions;
  readonly backendTimeoutMs: number;
  /** After how many failures in a row nobody asks the store for a while; 0 means never. */
  readonly breakerFailures: number;
  readonly timingMarginMs: number;
  /** Whether a process that loses a race hands its requests to the one that won. */
  readonly handsOver: boolean;
  /** How many keys of a limiter a process asks for at once. */
  readonly mostAtOnce: number;
  /** The settings of processes, in turn; empty if all have the same. A process that starts again has the next ones. */
  readonly variants: readonly Variant[];
  readonly steps: readonly Step[];
}

/** In one of this many clusters, each process asks for one key at a time. */
const CROWDED_GATES = 7;
/** How many slots are taken ahead, by seed. */
const PREFETCHES = [0, 0, 0, 3, 50];
/** One in this many clusters has unusual settings. */
const UNUSUAL = 3;

/** What the number of a seed decides, unless it is given: so that it can be the same for all seeds. */
export interface Given {
  /** See {@link Scenario.handsOver}. */
  readonly handsOver?: boolean;
  /** See {@link LimiterPlan.prefetch}. */
  readonly prefetch?: number;
  /** See {@link Scenario.mostAtOnce}. */
  readonly mostAtOnce?: number;
  /** Whether settings are drawn that hardly anybody chooses. */
  readonly isUnusual?: boolean;
}

/** What is usual. */
export const USUAL = { prefetch: 0, mostAtOnce: STORE_DEFAULTS.mostAtOnce, isUnusual: false } as const satisfies Given;

/** The scenario of a seed, which also decides its kind unless that is given. */
export function scenarioOf(
  seed: number,
  kind?: Profile,
  {
    handsOver = seed % 2 === 1,
    prefetch = PREFETCHES[seed % PREFETCHES.length]!,
    mostAtOnce = seed % CROWDED_GATES === 0 ? 1 : STORE_DEFAULTS.mostAtOnce,
    isUnusual = seed % UNUSUAL === 0,
  }: Given = {},
): Scenario {
  const random = createRandom(seed);
  const drawn = random.pick(PROFILES);
  const profile = kind ?? drawn;
  const plan = profiles[profile];
  const timingMarginMs = random.pick([10, 10, 4, 20]);
  const hosts = Array.from({ length: random.pick([1, 2, 2, 3, 3, 4]) }, () => plan.host(random, timingMarginMs));
  const limiters = Array.from(
    { length: plan.callers === "crowd" ? 1 : random.pick([1, 1, 1, 2]) },
    (_, index) => limiterPlan(random, index, plan, prefetch),
  );
  const horizonMs = random.pick([500, 2_000, 5_000]);
  const steps = [
    ...calls(random, hosts.length, limiters, horizonMs, plan),
    ...troubles(random, hosts.length, limiters.length, horizonMs, plan),
  ];
  const scenario: Scenario = {
    seed,
    profile,
    isUnusual,
    clock: plan.clock,
    hosts,
    limiters,
    conditions: plan.conditions(random),
    cluster: plan.cluster(random),
    backendTimeoutMs: random.pick(plan.backendTimeoutMs),
    breakerFailures: random.pick([0, 5]),
    timingMarginMs,
    handsOver,
    mostAtOnce,
    variants: [],
    steps: steps.toSorted((a, b) => a.at - b.at),
  };
  return isUnusual ? unusual(scenario) : scenario;
}

/** The scenario as the settings of a process have it: of the process that has this place among all. */
export function scenarioOfProcess(scenario: Scenario, place: number): Scenario {
  const { variants, limiters, backendTimeoutMs } = scenario;
  const variant = variants[place % variants.length];
  if (!variant) return scenario;
  return {
    ...scenario,
    backendTimeoutMs: backendTimeoutMs * variant.backendTimeout,
    limiters: limiters.map((plan) => ({
      ...plan,
      ...timesAsMuch(plan, variant.limits),
      leaseMs: plan.leaseMs * variant.lease,
      reserveAheadMs: plan.reserveAheadMs * variant.reserveAhead,
      prefetch: Math.floor(plan.prefetch * variant.prefetch),
    })),
  };
}

function limiterPlan(random: Random, index: number, plan: ProfilePlan, prefetch: number): LimiterPlan {
  const rate = () => ({ ratePerSecond: random.pick([5, 20, 50, 100, 1_000]), burst: random.pick([1, 1, 2, 5, 20]) });
  const window = () => ({ limit: random.pick([1, 3, 10, 150]), windowMs: random.pick([200, 1_000, 3_000]) });
  const several = <T>(make: () => T, most: number) => Array.from({ length: random.integer(1, most) }, make);
  const kind = random.pick(plan.limits);
  const has = (name: string) => kind === name || kind === "all" || (kind === "some" && random.chance(0.5));
  const windows = has("window") ? several(window, kind === "all" ? 2 : 1) : [];
  const maxConcurrent = has("concurrency") ? random.pick([1, 2, 5]) : undefined;
  const nothingYet = windows.length === 0 && maxConcurrent === undefined;
  const rates = nothingYet || has("rate") ? several(rate, kind === "all" ? 2 : 1) : [];
  const fails = plan.troubles.length > 2 && random.chance(0.2);
  return {
    id: `limiter${index}`,
    rates,
    windows,
    maxConcurrent,
    leaseMs: random.pick(plan.leaseMs),
    reserveAheadMs: random.pick(plan.reserveAheadMs),
    prefetch: windows.length === 0 && maxConcurrent === undefined ? prefetch : 0,
    onFailure: fails ? random.pick(["open", "local"]) : "closed",
  };
}

/** Whether all processes have the same limits. */
export function agrees(scenario: Scenario): boolean {
  const { amount, burst } = mostGenerous(scenario);
  return amount === 1 && burst === 1;
}

/** How many times the limits of a scenario its processes have at most. */
export function mostGenerous({ variants }: Scenario): Times {
  return {
    amount: Math.max(1, ...variants.map(({ limits }) => limits.amount)),
    burst: Math.max(1, ...variants.map(({ limits }) => limits.burst)),
  };
}

/** These limits, so many times over. */
export function timesAsMuch({ rates, windows, maxConcurrent }: Limits, { amount, burst: bursts }: Times): Limits {
  return {
    rates: rates.map(({ ratePerSecond, burst }) => ({ ratePerSecond: ratePerSecond * amount, burst: burst * bursts })),
    windows: windows.map(({ limit, windowMs }) => ({ limit: limit * amount, windowMs })),
    maxConcurrent: maxConcurrent === undefined ? undefined : maxConcurrent * amount,
  };
}

/** The largest cost that a limiter can grant. */
export function mostCost({ rates, windows }: Limits): number {
  return Math.min(...rates.map(({ burst }) => burst), ...windows.map(({ limit }) => limit));
}

function calls(
  random: Random,
  hosts: number,
  limiters: readonly LimiterPlan[],
  horizonMs: number,
  { callers, largeCosts, regrets, holdMs: holds }: ProfilePlan,
): Step[] {
  const isMixed = callers === "mixed";
  const isCrowd = callers === "crowd";
  const steps: Step[] = [];
  const keys = isCrowd
    ? [undefined] as const
    : random.pick([[undefined], [undefined], ["a", "b"], [undefined, "a", "b"]]);
  const groups = isCrowd ? 40 * hosts : isMixed ? random.integer(3, 14) : random.integer(2, 8);
  const crowdHoldMs = random.pick(holds);
  for (let group = 0; group < groups; group++) {
    const limiter = random.integer(0, limiters.length - 1);
    const process = isCrowd ? group % hosts : random.integer(0, hosts - 1);
    const at = callers === "patient" && group < hosts ? random.between(0, 20) : random.between(0, horizonMs);
    const size = isCrowd ? random.integer(1, 2) : isMixed ? random.pick([1, 1, 2, 5]) : random.integer(3, 15);
    const holdMs = isCrowd ? crowdHoldMs : random.pick(holds);
    const most = mostCost(limiters[limiter]!);
    const isLarge = largeCosts > 0 && random.chance(largeCosts);
    const cost = isLarge ? most : Math.min(isMixed ? random.pick([1, 1, 1, 2, 0.5]) : 1, most);
    const timeoutMs = isMixed ? random.pick([0, 30, 300, 2_000, Infinity, Infinity]) : Infinity;
    const key = random.pick(keys);
    for (let i = 0; i < size; i++) {
      const method = isMixed ? random.pick(["acquire", "acquire", "acquire", "tryAcquire", "take back"]) : "acquire";
      const changesItsMind = random.chance(regrets);
      steps.push({
        at,
        kind: "call",
        process,
        limiter,
        key,
        cost,
        timeoutMs,
        abortAfterMs: changesItsMind ? random.pick([0, 1, 5, 12, 40, 150, 700]) : Infinity,
        holdMs: holdMs * random.between(0.5, 1.5),
        method,
        insists: !isMixed,
      });
    }
  }
  return steps;
}

function troubles(
  random: Random,
  hosts: number,
  limiters: number,
  horizonMs: number,
  { troubles, mostTroubles }: ProfilePlan,
): Step[] {
  const [first, ...rest] = troubles;
  if (first === undefined) return [];
  return Array.from({ length: random.integer(1, mostTroubles) }, () => {
    const at = random.between(0, horizonMs);
    const process = random.integer(0, hosts - 1);
    const kind = random.pick([first, ...rest]);
    const ms = random.pick([5, 50, 300, 1_200, 4_000]) * random.between(0.5, 1.5);
    switch (kind) {
      case "look":
        return { at, kind, process, limiter: random.integer(0, limiters - 1) };
      case "crash":
      case "close":
        return { at, kind, process, backAfterMs: random.pick([1, 200, 3_000]) };
      case "step":
        return { at, kind, process, ms: random.pick([-3_600_000, -50, 50, 3_600_000]) };
      case "storm":
        return { at, kind, process, ms, worse: worse(random) };
      case "pause":
      case "cut":
        return { at, kind, process, ms };
      case "stop":
      case "freeze":
      case "lose":
        return { at, kind, ms };
    }
  });
}

function worse(random: Random): Partial<Conditions> {
  return random.pick<Partial<Conditions>>([
    { loss: 0.5 },
    { loss: 0.9 },
    { duplicates: 0.8 },
    { late: 0.5, lateMs: 700 },
    { leastMs: 20, mostMs: 80 },
  ]);
}

/** The options of a limiter. */
export function optionsOf(plan: LimiterPlan, backendTimeoutMs: number): LimiterSettings {
  const { rates, windows, maxConcurrent, leaseMs, reserveAheadMs, prefetch, onFailure } = plan;
  return {
    rates: [
      ...rates.map(({ ratePerSecond, burst }) => ({ limit: ratePerSecond, windowMs: 1_000, burst })),
      ...windows.map((window) => ({ ...window, algorithm: "sliding_window" as const })),
    ],
    ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
    store: "simulated",
    leaseMs,
    reserveAheadMs,
    prefetch,
    onFailure,
    backendTimeoutMs,
  };
}
