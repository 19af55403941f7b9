import type { ContestantName, Job, Order, Runtime } from "./job.ts";

/** What can be measured alone with `--only`. */
export const GROUP_NAMES = [
  "hot",
  "permits",
  "cluster",
  "uncontended",
  "callers",
  "refusals",
  "memory",
  "keys",
  "footprint",
] as const;

/** One of {@link GROUP_NAMES}. */
export type GroupName = typeof GROUP_NAMES[number];

/** What is measured in a run: the sum of all processes, or the worst of them. */
export type Measure = "perSecond" | "p50" | "p99" | "heapBytes" | "unevenness";

/** What the ratio has to be, or, without anybody to compare with, the value itself. */
export interface Goal {
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** Two contestants of a case, by their places among all of them, ours first; or ours alone. */
export interface Comparison {
  readonly measure: Measure;
  readonly ours: number;
  readonly theirs?: number;
  readonly goal?: Goal;
}

/** Processes with one job. */
export interface FleetPlan {
  readonly processes: number;
  readonly job: Job;
}

/** Contestants whose runs alternate, and what is compared. */
export interface Case {
  readonly title: string;
  readonly runtime: Runtime;
  readonly fleets: readonly FleetPlan[];
  /** What the contestants of all fleets are called, in order. */
  readonly labels: readonly string[];
  readonly order: Order["kind"];
  readonly comparisons: readonly Comparison[];
}

/** What the cases run on. */
export interface Setup {
  readonly runtimes: readonly Runtime[];
  readonly natsUrl: string;
  /** The URL of three servers, which are started only for the group that needs them. */
  readonly clusterUrl: string | undefined;
  /** Undefined if there is no Redis: then nothing is compared with it. */
  readonly redisPort: number | undefined;
  readonly processes: readonly number[];
  readonly callers: readonly number[];
  readonly keys: number;
}

/** A group, and what it is about. */
export interface Group {
  readonly about: string;
  cases(setup: Setup): Case[];
}

const OURS = "ours, NATS";
const REDIS = "rate-limiter-flexible, Redis";
/** The runtimes as the report calls them. */
export const RUNTIME_NAMES: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun" };
/** On Bun, more is asked of us. */
const HOT_GOAL: Readonly<Record<Runtime, number>> = { deno: 1.5, bun: 2.5 };
const KEYED_CALLERS = 10_000;

/** Everything that is measured. */
export const GROUPS: Readonly<Record<GroupName, Group>> = {
  hot: {
    about:
      "One key that every process uses. Each caller calls again as soon as it is answered, and nobody reaches the " +
      "limit. The number of calls is the sum of all processes, p99 that of the worst process. The last row is our " +
      "busiest process against our least busy one.",
    cases: (setup) =>
      forAll(setup, ({ runtime, processes, callers }) => {
        const redis = redisJob(setup, { contestants: ["redis.consume"], callers });
        return {
          title: `${RUNTIME_NAMES[runtime]}, ${processes} x ${callers}`,
          runtime,
          order: "time",
          fleets: [{ processes, job: natsJob(setup.natsUrl, { contestants: ["nats.acquire"], callers }) }]
            .concat(redis ? [{ processes, job: redis }] : []),
          labels: [OURS, REDIS],
          comparisons: [
            against(redis, { measure: "perSecond", goal: { atLeast: HOT_GOAL[runtime] } }),
            against(redis, { measure: "p99", goal: { atMost: 1 } }),
            ...(processes > 1 ? [{ measure: "unevenness", ours: 0, goal: { atMost: 2 } } as const] : []),
          ],
        };
      }),
  },

  permits: {
    about:
      "One key with 20 permits, for which callers of every process wait. Each gives its permit back at once, and " +
      "takes the next. The last row is our busiest process against our least busy one.",
    cases: (setup) =>
      forAll(
        { ...setup, processes: setup.processes.filter((count) => count > 1) },
        ({ runtime, processes, callers }) => ({
          title: `${RUNTIME_NAMES[runtime]}, ${processes} x ${callers}`,
          runtime,
          order: "time",
          fleets: [{ processes, job: natsJob(setup.natsUrl, { contestants: ["nats.permits"], callers }) }],
          labels: [OURS],
          comparisons: [
            { measure: "perSecond", ours: 0 },
            { measure: "p99", ours: 0 },
            { measure: "unevenness", ours: 0, goal: { atMost: 2 } },
          ],
        }),
      ),
  },

  cluster: {
    about:
      "The same on a cluster of three servers that all keep the bucket (R3), against one server (R1). All of them " +
      "run on this machine.",
    cases: (setup) =>
      forAll(setup, ({ runtime, processes, callers }) => {
        const job = { contestants: ["nats.acquire"], callers } as const;
        return {
          title: `${RUNTIME_NAMES[runtime]}, ${processes} x ${callers}`,
          runtime,
          order: "time",
          fleets: [
            { processes, job: { ...natsJob(setup.clusterUrl ?? setup.natsUrl, job), replicas: 3 } },
            { processes, job: natsJob(setup.natsUrl, job) },
          ],
          labels: ["ours, R3", "ours, R1"],
          comparisons: [
            { measure: "perSecond", ours: 0, theirs: 1, goal: { atLeast: 0.5 } },
            { measure: "p99", ours: 0, theirs: 1 },
            ...(processes > 1 ? [{ measure: "unevenness", ours: 0, goal: { atMost: 2 } } as const] : []),
          ],
        };
      }),
  },

  uncontended: {
    about:
      "One caller that acquires one after the other, against `kv.update()` of the same client. Both take turns of " +
      "a tenth of a run in one process.",
    cases: ({ runtimes, natsUrl }) =>
      runtimes.map((runtime) => ({
        title: `${RUNTIME_NAMES[runtime]}, 1 x 1`,
        runtime,
        order: "time",
        fleets: [{
          processes: 1,
          job: natsJob(natsUrl, { contestants: ["nats.acquire", "kv.update"], callers: 1 }),
        }],
        labels: [OURS, "raw kv.update"],
        comparisons: [
          { measure: "p50", ours: 0, theirs: 1, goal: { atMost: 1.1 } },
          { measure: "p99", ours: 0, theirs: 1, goal: { atMost: 1.1 } },
          { measure: "perSecond", ours: 0, theirs: 1 },
        ],
      })),
  },

  callers: {
    about: "One key, one process, many callers.",
    cases: (setup) =>
      forAll({ ...setup, processes: [1], callers: [100, 1_000] }, ({ runtime, callers }) => {
        const redis = redisJob(setup, { contestants: ["redis.consume"], callers });
        return {
          title: `${RUNTIME_NAMES[runtime]}, 1 x ${callers}`,
          runtime,
          order: "time",
          fleets: [{ processes: 1, job: natsJob(setup.natsUrl, { contestants: ["nats.acquire"], callers }) }]
            .concat(redis ? [{ processes: 1, job: redis }] : []),
          labels: [OURS, REDIS],
          comparisons: [
            against(redis, { measure: "perSecond", goal: { atLeast: callers === 100 ? 2 : 5 } }),
            against(redis, { measure: "p99" }),
          ],
        };
      }),
  },

  refusals: {
    about:
      "Refusals that are certain without asking the server, one after the other in one process. The peer runs with " +
      "`inMemoryBlockOnConsumed`, so it does not ask its server either.",
    cases: (setup) =>
      setup.runtimes.map((runtime) => {
        const untimed = { callers: 1, timed: false };
        const redis = redisJob(setup, { contestants: ["redis.refused"], ...untimed });
        return {
          title: RUNTIME_NAMES[runtime],
          runtime,
          order: "time",
          fleets: [{ processes: 1, job: natsJob(setup.natsUrl, { contestants: ["nats.refused"], ...untimed }) }]
            .concat(redis ? [{ processes: 1, job: redis }] : []),
          labels: ["ours, NATS: tryAcquire", REDIS],
          comparisons: [
            { measure: "perSecond", ours: 0, goal: { atLeast: 2_000_000 } },
            ...(redis ? [{ measure: "perSecond", ours: 0, theirs: 1 } as const] : []),
          ],
        };
      }),
  },

  memory: {
    about: "Stores in the memory of one process, one call after the other. Each of them has a process of its own.",
    cases: ({ runtimes }) =>
      runtimes.flatMap((runtime) =>
        [1, 10_000].map((keys): Case => {
          const plan = (contestant: ContestantName): FleetPlan => ({
            processes: 1,
            job: { contestants: [contestant], callers: 1, keys, timed: false },
          });
          const faster = { measure: "perSecond", goal: { atLeast: 1.5 } } as const;
          return {
            title: `${RUNTIME_NAMES[runtime]}, ${keys === 1 ? "one key" : "10,000 keys"}`,
            runtime,
            order: "time",
            fleets: [
              plan("memory.tryAcquire"),
              plan("memory.acquire"),
              plan("memory.tryAcquireSync"),
              plan("rlf.consume"),
              plan("limiter.removeTokens"),
              plan("limiter.tryRemoveTokens"),
              plan("bottleneck.schedule"),
            ],
            labels: [
              "ours: tryAcquire",
              "ours: acquire",
              "ours: tryAcquireSync",
              "RateLimiterMemory.consume",
              "limiter: removeTokens",
              "limiter: tryRemoveTokens (synchronous)",
              "bottleneck: schedule, 500 at once",
            ],
            comparisons: [
              { ...faster, ours: 0, theirs: 3 },
              { ...faster, ours: 1, theirs: 3 },
              { measure: "perSecond", ours: 2, theirs: 3, goal: { atLeast: 3 } },
              { measure: "perSecond", ours: 1, theirs: 4 },
              { measure: "perSecond", ours: 2, theirs: 5 },
              { measure: "perSecond", ours: 1, theirs: 6 },
            ],
          };
        })
      ),
  },

  keys: {
    about:
      "Many callers, each with another key every time, against `kv.put()` of the same client by as many callers. " +
      "Every run has new keys and calls once with each; both take turns in one process.",
    cases: ({ runtimes, natsUrl, keys }) =>
      runtimes.map((runtime) => ({
        title: `${RUNTIME_NAMES[runtime]}, ${KEYED_CALLERS.toLocaleString("en")} callers, ${
          keys.toLocaleString("en")
        } keys`,
        runtime,
        fleets: [{
          processes: 1,
          job: { ...natsJob(natsUrl, { contestants: ["nats.acquire", "kv.put"], callers: KEYED_CALLERS }), keys },
        }],
        labels: [OURS, "pipelined kv.put"],
        order: "new keys",
        comparisons: [
          { measure: "perSecond", ours: 0, theirs: 1, goal: { atLeast: 0.8 } },
          { measure: "p99", ours: 0, theirs: 1 },
        ],
      })),
  },

  footprint: {
    about: "What a key that was used once, and that nobody waits for, holds in the heap of its process, in bytes. In " +
      "memory that includes what is stored.",
    cases: ({ runtimes, natsUrl }) =>
      runtimes.map((runtime) => {
        const job = { callers: 100, keys: 2_000, timed: true } as const;
        return {
          title: RUNTIME_NAMES[runtime],
          runtime,
          order: "heap",
          fleets: [
            { processes: 1, job: natsJob(natsUrl, { ...job, contestants: ["nats.acquire"] }) },
            { processes: 1, job: { ...job, contestants: ["memory.acquire"] } },
            { processes: 1, job: { ...job, contestants: ["rlf.consume"] } },
          ],
          labels: [OURS, "ours, memory", "RateLimiterMemory"],
          comparisons: [
            { measure: "heapBytes", ours: 0, goal: { atMost: 300 } },
            { measure: "heapBytes", ours: 1, theirs: 2 },
          ],
        };
      }),
  },
};

interface Shape {
  readonly runtime: Runtime;
  readonly processes: number;
  readonly callers: number;
}

function forAll({ runtimes, processes, callers }: Setup, caseOf: (shape: Shape) => Case): Case[] {
  return runtimes.flatMap((runtime) =>
    processes.flatMap((count) => callers.map((each) => caseOf({ runtime, processes: count, callers: each })))
  );
}

type Wanted = Pick<Job, "contestants" | "callers"> & Partial<Job>;

let buckets = 0;

/** Every job has a bucket of its own, which its contestants share. */
function natsJob(natsUrl: string, job: Wanted): Job {
  return { keys: 1, timed: true, natsUrl, bucket: `bench-${buckets++}`, ...job };
}

function redisJob({ redisPort }: Setup, job: Wanted): Job | undefined {
  return redisPort === undefined ? undefined : { keys: 1, timed: true, redisPort, ...job };
}

function against(redis: Job | undefined, comparison: Omit<Comparison, "ours" | "theirs">): Comparison {
  if (redis !== undefined) return { ...comparison, ours: 0, theirs: 1 };
  return { measure: comparison.measure, ours: 0 };
}
