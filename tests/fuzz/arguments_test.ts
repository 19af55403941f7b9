import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import { CompositeRateLimiter } from "../../src/composite.ts";
import { parseTimestamp } from "../../src/adapters/nats/clock.ts";
import { isAtLeast } from "../../src/adapters/nats/bucket.ts";
import { readAnswer } from "../../src/adapters/nats/link.ts";
import { rateLimited } from "../../src/rate_limited/rate_limited.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { pureLimiter, type PureLimiterOptions } from "../../src/standalone/pure_limiter.ts";
import { anything, attempt, attemptAsync, fuzz, soup } from "./fuzz.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** What is being hashed, as long keys are: in real time, of which a virtual clock knows nothing. */
const hashing = new Set<Promise<ArrayBuffer>>();
const digest = crypto.subtle.digest.bind(crypto.subtle);
Object.defineProperty(crypto.subtle, "digest", {
  value(...args: Parameters<typeof digest>) {
    const hash = digest(...args);
    hashing.add(hash);
    return hash.finally(() => hashing.delete(hash));
  },
});

interface Bench {
  readonly rateSync: RateSync;
  /** Gives a call some time, and what still waits then the answer that everything is closed. */
  settle<T>(pending: Promise<T>): Promise<T>;
}

function bench(): Bench {
  const clock = createVirtualClock();
  const rateSync = registry(clock);
  return {
    rateSync,
    async settle(pending) {
      pending.catch(() => {}); // It is awaited below.
      do {
        await Promise.allSettled(hashing);
        await new Promise((resolve) => setTimeout(resolve)); // what follows from them may be hashed, too
      } while (hashing.size > 0);
      await clock.advance(5_000);
      await rateSync.close();
      return await pending;
    },
  };
}

function registry(clock = createVirtualClock()): RateSync {
  const rateSync = createRateSync({ clock, logger: quiet });
  rateSync.configureLimiter("api", { ratePerSecond: 1, burst: 3 });
  rateSync.configureLimiter("permits", { maxConcurrent: 2 });
  return rateSync;
}

const ids = fc.oneof({ weight: 3, arbitrary: fc.constantFrom<unknown>("api", "permits") }, anything);
const requests = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record<Record<string, unknown>>({
      timeoutMs: fc.oneof(fc.constant<unknown>(0), anything),
      cost: fc.oneof(fc.constantFrom<unknown>(1, 2, 0.5), anything),
      key: fc.oneof(fc.string(), anything),
      signal: fc.oneof(fc.constant<unknown>(undefined), fc.constant(AbortSignal.abort("no")), anything),
      consume: fc.oneof(fc.boolean(), anything),
      id: ids,
    }, { requiredKeys: [] }),
  },
  anything,
);

/** The same without a `key`: what a function of the caller's throws is the caller's. */
function withoutKey(options: unknown): unknown {
  return typeof options === "object" && options !== null ? { ...options, key: undefined } : options;
}

/** The methods of a registry that take a request, and what they are given. */
const calls = fc.oneof(
  fc.tuple(
    fc.constantFrom("tryAcquire", "checkLimiter", "initializeLimiter", "getOrCloneLimiter"),
    fc.tuple(ids, requests),
  ),
  // Without a time limit an acquisition may wait for as long as it takes.
  fc.tuple(
    fc.constant("acquire"),
    fc.tuple(
      ids,
      requests.map((request) =>
        typeof request === "object" && request !== null && !Object.isFrozen(request)
          ? { timeoutMs: 0, ...request }
          : request
      ),
    ),
  ),
  fc.tuple(
    fc.constant("checkMultiLimiters"),
    fc.tuple(fc.oneof(fc.array(fc.oneof(ids, requests), { maxLength: 3 }), anything), requests),
  ),
  fc.tuple(fc.constant("loadConfig"), fc.tuple(anything)),
);
const synchronous = fc.oneof(
  fc.tuple(fc.constantFrom("getLimiter"), fc.tuple(ids)),
  fc.tuple(fc.constantFrom("cloneLimiter"), fc.tuple(ids, ids, anything)),
  fc.tuple(fc.constantFrom("configureStore", "configureLimiter"), fc.tuple(anything, anything)),
);

/** Calls a method as untyped code would. */
function call(target: object, method: string, args: readonly unknown[]): unknown {
  return Reflect.apply(Reflect.get(target, method), target, args);
}

fuzz(
  "fuzz: every method of a registry answers any arguments with a result, or an error that says what is wrong",
  1_500,
  fc.asyncProperty(calls, async ([method, args]) => {
    const { rateSync, settle } = bench();
    const limiter = rateSync.getLimiter("api");
    const pending = call(rateSync, method, args) as Promise<unknown>; // each of these returns one
    // The reason of a caller's own signal is the caller's.
    const result = await attemptAsync(() =>
      settle(pending.catch((error) => error === "no" ? undefined : Promise.reject(error)))
    );
    if (!result.ok) assert(!/\[object|undefined is not/.test(result.error.message), result.error.message);
    const { degradedAcquisitions, backendFailures } = limiter.getMetrics();
    assertEquals([degradedAcquisitions, backendFailures], [0, 0], "a wrong argument counts as a store that is down");
  }),
);

fuzz(
  "fuzz: configuring, cloning and finding take any arguments, or say what is wrong with them",
  1_000,
  fc.property(synchronous, ([method, args]) => {
    const rateSync = registry();
    attempt(() => call(rateSync, method, args));
    attempt(() => rateSync.listStores());
    attempt(() => rateSync.listLimiters());
  }),
);

fuzz(
  "fuzz: createRateSync() takes any settings, or says what is wrong with them",
  500,
  fc.property(
    fc.oneof(
      fc.record<Record<string, unknown>>({
        stores: fc.oneof(
          fc.dictionary(fc.string(), fc.oneof(fc.constant<unknown>({ engine: "memory" }), anything)),
          anything,
        ),
        limiters: fc.oneof(
          fc.dictionary(fc.string(), fc.oneof(fc.constant<unknown>({ ratePerSecond: 1 }), anything)),
          anything,
        ),
      }, { requiredKeys: [] }),
      anything,
    ),
    (settings) => {
      const made = attempt(() => Reflect.apply(createRateSync, undefined, [settings]) as RateSync);
      if (made.ok) assertEquals(typeof made.value.listLimiters(), "object");
    },
  ),
);

fuzz(
  "fuzz: a composite limiter checks what it is given",
  400,
  fc.asyncProperty(
    fc.oneof(
      fc.record<Record<string, unknown>>({
        limiters: fc.oneof(fc.dictionary(fc.string(), ids), fc.constant({ a: "api", p: "permits" }), anything),
        strategy: fc.oneof(fc.constantFrom("most_restrictive", "all_must_pass", "any_must_pass"), anything),
      }, { requiredKeys: ["limiters"] }),
      anything,
    ),
    fc.oneof(fc.dictionary(fc.string(), fc.string()), anything),
    requests,
    async (options, keys, request) => {
      const { rateSync, settle } = bench();
      const given = typeof options === "object" && options !== null ? { ...options, rateSync } : options;
      const made = attempt(() => Reflect.construct(CompositeRateLimiter, [given]) as CompositeRateLimiter<string>);
      if (made.ok) await attemptAsync(() => settle(call(made.value, "check", [keys, request]) as Promise<unknown>));
    },
  ),
);

const pieces = [
  "api",
  ":",
  "{",
  "}",
  "{a}",
  "{b}",
  "{a.b}",
  "{__proto__}",
  "{constructor.name}",
  ".",
  " ",
  "",
  "x",
  "%",
  "{length}",
];
const templates = fc.oneof(
  soup(pieces, 8),
  soup(pieces, 6).map((text) => `api:${text}`),
  fc.constantFrom("api:{a}", "api:{a}:{b}", "api:x{a}:y:{b}z", "permits:{a.b}"),
  // What a function of the caller's throws is the caller's.
  anything.filter((value) => typeof value !== "function"),
);
const values = fc.oneof(fc.string(), soup([":", "%", "%3A", "%25", "a", "y", "x", ""], 6), fc.double(), anything);
const sources = fc.oneof(
  { weight: 4, arbitrary: fc.record<Record<string, unknown>>({ a: values, b: values }, { requiredKeys: [] }) },
  anything,
);

fuzz(
  "fuzz: rateLimited() runs the function, or says what is wrong with the template, the options or the arguments",
  1_000,
  fc.asyncProperty(
    templates,
    fc.oneof({ weight: 3, arbitrary: fc.constant<unknown>({}) }, requests.map(withoutKey), anything.map(withoutKey)),
    fc.array(sources, { maxLength: 2 }),
    async (template, options, args) => {
      const { rateSync, settle } = bench();
      const settings = typeof options === "object" && options !== null
        ? { timeoutMs: 0, ...options, rateSync }
        : options;
      const made = attempt(() =>
        Reflect.apply(rateLimited, undefined, [template, () => "ran", settings]) as typeof run
      );
      if (!made.ok) return;
      const result = await attemptAsync(() => settle(made.value(...args)));
      if (result.ok) assert(result.value === "ran" || result.value === null);
    },
  ),
);

declare function run(...args: readonly unknown[]): Promise<unknown>;

const plain = fc.oneof(fc.string(), soup([":", "%", "%3A", "%25", "a", "y", "x", ""], 6));

fuzz(
  "fuzz: rateLimited() gives different values different keys, whatever stands in them",
  700,
  fc.asyncProperty(
    fc.constantFrom("api:{a}:{b}", "api:x{a}:y:{b}z", "api:{a}::{b}", "api:{b}:{a}:"),
    fc.tuple(plain, plain),
    fc.tuple(plain, plain),
    async (template, [a, b], [c, d]) => {
      const keys: unknown[] = [];
      const found = {
        getLimiter: () => ({
          acquire({ key }: { key?: string }) {
            keys.push(key);
            return Promise.resolve({ release: () => Promise.resolve() });
          },
        }),
      };
      const fn = (_values: { a: string; b: string }) => true;
      // Only the one method of a registry that is used here.
      const limited = rateLimited(template, fn, { rateSync: found as unknown as RateSync });
      await limited({ a, b });
      await limited({ a: c, b: d });
      if (a === c && b === d) assertEquals(keys[0], keys[1]);
      else assertNotEquals(keys[0], keys[1]);
    },
  ),
);

fuzz(
  "fuzz: what a server says about its time and version is understood or ignored",
  1_000,
  fc.property(
    fc.oneof(
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((date) => date.toISOString()),
      soup(["2030", "-", "01", "T", ":", "00", ".", "5", "9".repeat(400), "Z", "+", "99:99", " "], 16),
      anything,
    ),
    fc.uint8Array(),
    (text, bytes) => {
      const time = parseTimestamp(text);
      assert(time === undefined || Number.isFinite(time));
      const whole = typeof text === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text)
        ? Date.parse(text)
        : NaN;
      if (!Number.isNaN(whole)) assert(time !== undefined && Math.abs(time - whole) < 1e-3);
      assertEquals(typeof readAnswer(bytes), "object");
      assertEquals(typeof isAtLeast(String(typeof text === "string" ? text : ""), [2, 9, 21]), "boolean");
    },
  ),
);

fuzz(
  "fuzz: pureLimiter() comes to a decision or to an error of this package, whatever it is called with",
  1_000,
  fc.property(
    fc.constantFrom<PureLimiterOptions>(
      { ratePerSecond: 10, burst: 3 },
      { maxConcurrent: 2, rates: [{ limit: 5, windowMs: 1_000, algorithm: "sliding_window" }] },
    ),
    fc.oneof(anything, fc.uint8Array({ maxLength: 60 }), fc.constant(null)),
    fc.oneof(anything, fc.double(), fc.constant(Date.UTC(2030, 0, 1))),
    fc.record<Record<string, unknown>>({ cost: anything, startBy: anything, holder: anything }, { requiredKeys: [] }),
    (options, value, now, request) => {
      const limiter = pureLimiter("api", options);
      const call = [value, now, request] as unknown as Parameters<typeof limiter.decide>; // untyped code may give anything
      const decided = attempt(() => limiter.decide(...call));
      if (decided.ok) {
        const { allowed, limit, remaining, resetAt, ...more } = decided.value;
        assertEquals(typeof allowed, "boolean");
        const numbers = "startAt" in more ? [more.startAt, more.keepUntil] : [more.retryAt];
        for (const number of [limit, remaining, resetAt, ...numbers]) assert(Number.isFinite(number), String(number));
      }
      attempt(() => limiter.usage(call[0], call[1]));
      for (const what of ["renew", "release"] as const) {
        const result = attempt(() => limiter[what](call[0], call[1], request["holder"] as string)); // or anything
        if (result.ok) assert(result.value === undefined || result.value instanceof Uint8Array);
      }
    },
  ),
);
