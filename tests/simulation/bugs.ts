import type { Clock } from "../../src/core/clock.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import type { Permit } from "../../src/core/limiter/result.ts";
import type { CasResult, Kv } from "../../src/core/store/kv.ts";
import type { Host } from "./host.ts";
import type { Sabotage } from "./process.ts";
import type { Profile } from "./profiles.ts";

/** A mistake that a limiter could make, injected from outside, and where it has to be found. */
export interface Bug {
  readonly name: string;
  readonly sabotage: Sabotage;
  readonly profile: Profile;
  /** What the judge has to say. */
  readonly found: RegExp;
}

/** The part of a value that the bugs touch. Times count from the epoch. */
interface Stored {
  readonly epoch: number;
  readonly rate?: number;
  readonly concurrency?: {
    readonly holders: readonly {
      readonly owner: string;
      readonly until: number;
      readonly permits: readonly number[];
    }[];
    readonly waiting: readonly unknown[];
  };
  readonly writers: readonly (readonly [id: string, operation: number])[];
}

function read(value: Uint8Array): Stored {
  return JSON.parse(new TextDecoder().decode(value));
}

function written(stored: Stored): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(stored));
}

type Write = (key: string, value: Uint8Array, expected: number, ttlMs?: number) => Promise<CasResult>;

/** A store in which something other than intended is written. */
function writing(change: (stored: Stored) => Stored): Pick<Sabotage, "kv"> {
  return {
    kv: (kv) => ({
      ...kv,
      compareAndSet: (key, value, expected, ttlMs) =>
        kv.compareAndSet(key, written(change(read(value))), expected, ttlMs),
    }),
  };
}

const skipsTheTag = writing((stored) => ({ ...stored, writers: [] }));

const takesSilenceForSuccess: Sabotage = {
  kv(kv) {
    let last: Stored["writers"][number] | undefined;
    return {
      ...kv,
      compareAndSet(key, value, expected, ttlMs) {
        last = read(value).writers.at(-1);
        return kv.compareAndSet(key, value, expected, ttlMs);
      },
      async get(key) {
        const entry = await kv.get(key);
        if (!entry || !last) return entry;
        const stored = read(entry.value);
        return { ...entry, value: written({ ...stored, writers: [...stored.writers, last] }) };
      },
    };
  },
};

const ignoresConflicts: Sabotage = {
  kv: (kv) => ({
    ...kv,
    async compareAndSet(key, value, expected, ttlMs) {
      const result = await kv.compareAndSet(key, value, expected, ttlMs);
      return result.ok ? result : { ok: true, revision: expected + 1 };
    },
  }),
};

const trustsItsWallClock: Sabotage = {
  clock: (clock, host) => ({ now: host.wall, sleep: (ms, signal) => clock.sleep(ms, signal) }),
};

const MANY_MS = 1e9;

const forgetsThatLeasesEnd = writing((stored) => withLeases(stored, (until) => until + MANY_MS));

const writesLeasesThatAreOver = writing((stored) => withLeases(stored, (until) => until - MANY_MS));

function withLeases(stored: Stored, change: (until: number) => number): Stored {
  const { concurrency } = stored;
  if (!concurrency) return stored;
  const holders = concurrency.holders.map((holder) => ({ ...holder, until: change(holder.until) }));
  return { ...stored, concurrency: { ...concurrency, holders } };
}

const givesBackTwice: Sabotage = {
  kv(kv) {
    const seen = new Map<string, number>();
    const remember = (key: string, { epoch, rate = 0 }: Stored) => seen.set(key, epoch + rate);
    const write: Write = (key, value, expected, ttlMs) => {
      const stored = read(value);
      const { epoch, rate } = stored;
      const back = (seen.get(key) ?? -Infinity) - (epoch + (rate ?? 0));
      const twice = rate !== undefined && back > 0 && back < MANY_MS ? { ...stored, rate: rate - back } : stored;
      remember(key, twice);
      return kv.compareAndSet(key, written(twice), expected, ttlMs);
    };
    return {
      ...kv,
      compareAndSet: write,
      async get(key) {
        const entry = await kv.get(key);
        if (entry) remember(key, read(entry.value));
        return entry;
      },
    };
  },
};

const worksOnWithoutItsPermit: Sabotage = {
  limiter(limiter) {
    const deaf = (permit: Permit): Permit => {
      const { limiterId, waitedMs, degraded, release } = permit;
      const signal = new AbortController().signal;
      return { limiterId, waitedMs, degraded, release, lost: false, signal, [Symbol.asyncDispose]: release };
    };
    const wrap = (inner: ClosableLimiter): ClosableLimiter => {
      const methods: Partial<ClosableLimiter> = {
        key: (key) => wrap(inner.key(key)),
        acquire: async (options) => deaf(await inner.acquire(options)),
        async tryAcquire(options) {
          const result = await inner.tryAcquire(options);
          return result.allowed ? { ...result, permit: deaf(result.permit) } : result;
        },
      };
      return new Proxy(inner, {
        get(target, name) {
          const value: unknown = Reflect.get(methods, name) ?? Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    };
    return wrap(limiter);
  },
};

/** Like a monotonic clock that stands still while the machine sleeps: a lease then seems to last. */
const renewsWhatRanOut: Sabotage = {
  clock: (clock, host) => ({
    now: () => clock.now() - host.pauses.reduce((sum, { from, to }) => sum + (host.now >= to ? to - from : 0), 0),
    sleep: (ms, signal) => clock.sleep(ms, signal),
  }),
};

/** One process loses nearly every race, and takes its time. */
const loses: Sabotage = {
  kv(kv: Required<Omit<Kv, "loans">>, host: Host) {
    if (!host.name.startsWith("p0")) return kv;
    let writes = 0;
    return {
      ...kv,
      async compareAndSet(key, value, expected, ttlMs) {
        if (++writes % 50 === 0) return await kv.compareAndSet(key, value, expected, ttlMs);
        await host.clock.sleep(100);
        return { ok: false };
      },
    };
  },
};

const wakesLate: Sabotage = {
  clock: (clock): Clock => ({ now: () => clock.now(), sleep: (ms, signal) => clock.sleep(3 * ms, signal) }),
};

const readsWhatIsOld: Sabotage = {
  kv(kv) {
    const old = new Map<string, Uint8Array>();
    return {
      ...kv,
      async get(key) {
        const entry = await kv.get(key);
        if (!entry) return entry;
        const value = old.get(key) ?? entry.value;
        old.set(key, entry.value);
        return { ...entry, value };
      },
    };
  },
};

const readsAgainAndAgain: Sabotage = {
  kv: (kv) => ({
    ...kv,
    async get(key) {
      for (let i = 0; i < 50; i++) await kv.get(key);
      return await kv.get(key);
    },
  }),
};

/** Mistakes, each of which the judge has to find. */
export const bugs: readonly Bug[] = [
  { name: "skips the writer's tag", sabotage: skipsTheTag, profile: "acknowledgements", found: /wasted/ },
  {
    name: "takes a conflict after silence for its own write",
    sabotage: takesSilenceForSuccess,
    profile: "acknowledgements",
    found: /is allowed|ran at/,
  },
  { name: "ignores a conflict", sabotage: ignoresConflicts, profile: "calm", found: /is allowed|ran at/ },
  { name: "trusts the wall clock of its host", sabotage: trustsItsWallClock, profile: "calm", found: /is allowed/ },
  {
    name: "forgets that leases end",
    sabotage: forgetsThatLeasesEnd,
    profile: "deaths",
    found: /leaked|never answered/,
  },
  { name: "writes leases that are over", sabotage: writesLeasesThatAreOver, profile: "calm", found: /ran at/ },
  { name: "gives back twice", sabotage: givesBackTwice, profile: "regrets", found: /is allowed/ },
  {
    name: "works on when its permit is lost",
    sabotage: worksOnWithoutItsPermit,
    profile: "leases",
    found: /ran at/,
  },
  {
    name: "renews a lease that ran out while it stood still",
    sabotage: renewsWhatRanOut,
    profile: "leases",
    found: /ran at/,
  },
  { name: "lets one process lose", sabotage: loses, profile: "crowd", found: /starved/ },
  { name: "wakes up late", sabotage: wakesLate, profile: "calm", found: /had to be by/ },
  { name: "reads again and again", sabotage: readsAgainAndAgain, profile: "calm", found: /a storm/ },
  { name: "reads what is old", sabotage: readsWhatIsOld, profile: "calm", found: /is allowed|ran at/ },
];
