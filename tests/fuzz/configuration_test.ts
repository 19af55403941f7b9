import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { checkLimiterOptions } from "../../src/config/limiters.ts";
import { parseConfiguration } from "../../src/config/load.ts";
import { isNetwork } from "../../src/config/networks.ts";
import type { LimiterOptions, StoreOptions } from "../../src/config/options.ts";
import { maskStoreOptions, maskText } from "../../src/config/secrets.ts";
import { checkStoreOptions } from "../../src/config/stores.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { createLimiter, type StandaloneLimiter } from "../../src/standalone/limiter.ts";
import { memoryKv } from "../../src/adapters/memory.ts";
import type { Limiter } from "../../src/core/limiter/limiter.ts";
import { createRateSync } from "../../src/registry/registry.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { connectionStub, kvStub } from "../config/stubs.ts";
import { anything, assertDiscreet, type Attempt, attempt, damaged, fuzz, SECRET, soup } from "./fuzz.ts";
import { isIP } from "node:net";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** URLs that hold a secret, in whatever form somebody may have written it. */
const SECRET_URLS = [
  `nats://user:${SECRET}@host`,
  `nats://${SECRET}@host:4222`,
  `nats://user:${SECRET}@host/path`,
  `user:${SECRET}@host`,
  `nats://a,tls://user:${SECRET}@host`,
  `nats://user:${SECRET}@a,nats://user:other@b`,
  `nats://user:${SECRET}`,
  `nats://host:4222:${SECRET}`,
  `nats://host:4222?token=${SECRET}`,
  `nats://host:4222/?token=${SECRET}#x`,
  `nats://host:4222#${SECRET}`,
  `ws://host/nats?token=${SECRET}`,
  `ws://host?token=${SECRET}`,
  `wss://user:${SECRET}@host/nats?x=1`,
  `http://user:${SECRET}@host`,
  `redis://:${SECRET}@host`,
  `nats:/user:${SECRET}@host`,
];

const VARIABLES: Readonly<Record<string, string>> = {
  PASSWORD: SECRET,
  URL: `nats://user:${SECRET}@host`,
  QUERY: `?token=${SECRET}`,
  EMPTY: "",
  DOLLAR: `${SECRET}\${PASSWORD}$`,
  NUMBER: "5",
};

/** Values as a file may hold them, right and wrong ones, and secrets where secrets belong. */
const SECRET_VALUES = [
  `"${SECRET}"`,
  `'${SECRET}'`,
  `["${SECRET}"]`,
  `{ value = "${SECRET}" }`,
  '"${PASSWORD}"',
  '"${MISSING:-${PASSWORD}}"',
  '"$DOLLAR"',
  '["$PASSWORD"]',
];
const ANY_VALUES = [
  '"${PASSWORD}"',
  '"a ${PASSWORD} b"',
  '"$MISSING"',
  '"${EMPTY:-}"',
  '"${NUMBER}"',
  '"${NUMBER:-1}e400"',
  '"memory"',
  '"nats"',
  '"s"',
  '"token_bucket"',
  '"sliding_window"',
  '"local"',
  '"open"',
  '"closed"',
  '"file"',
  "true",
  '"true"',
  "false",
  "0",
  "1",
  "-1",
  "2",
  "5",
  "0.5",
  "1e-300",
  "5e-324",
  "1e300",
  "1e9",
  "9007199254740991",
  "3_000",
  "inf",
  "nan",
  '""',
  '" "',
  "[]",
  "{}",
  "[1]",
  '["10.0.0.0/8"]',
  "[{ limit = 1, window_seconds = 1 }]",
  "[{ limit = 5, window_seconds = 1e-300 }]",
  "[{ limit = 9007199254740991, window_seconds = 1 }]",
  '[{ limit = 2, window_seconds = 60, algorithm = "sliding_window" }, { limit = 1, window_seconds = 1, burst = 3 }]',
  "[{ limit = 1 }]",
  "[{}]",
  "2.5",
  '"/etc/ca.pem"',
  '"é"',
]; // deno-fmt-ignore
const STORE_KEYS = [
  "engine", "url", "token", "user", "password", "credentials_file", "nkey_seed_file", "tls_ca_file", "tls_cert_file", "tls_key_file",
  "bucket_name", "domain", "auto_create", "partitions", "replicas", "storage", "bucket_ttl", "retry_interval", "max_retries", "timing_margin_ms", "backend_timeout",
  "clock", "passwrd", "connection", "kv", "__proto__", "constructor", "replace",
  "breaker_failures",
  "breaker_cool_down",
  "breaker_max_cool_down",
]; // deno-fmt-ignore
const LIMITER_KEYS = [
  "store", "algorithm", "rate_per_second", "burst", "max_concurrent", "lease", "limit", "window_seconds", "rates", "timeout",
  "fail_closed", "on_failure", "backend_timeout", "reserve_ahead", "prefetch", "ratePerSecond", "replace", "rate_per_secnd",
]; // deno-fmt-ignore
const SECRET_KEYS = ["token", "password", "passwrd", "url"];

/** Most of them alone with what a store needs, so that many are accepted. */
const storeLines = fc.uniqueArray(
  fc.oneof(
    fc.tuple(fc.constantFrom("token", "password", "passwrd"), fc.constantFrom(...SECRET_VALUES)),
    fc.tuple(
      fc.constant("url"),
      fc.constantFrom(...SECRET_URLS.map((url) => `"${url}"`), '"nats://h"', '"$URL"', '"ws://h${QUERY}"'),
    ),
    fc.tuple(fc.constantFrom(...STORE_KEYS), fc.constantFrom(...ANY_VALUES, '"nats://h"', '"nats"')),
    fc.constantFrom(["engine", '"nats"'], ["url", '"nats://h"'], ["user", '"me"']),
  ),
  { selector: ([key]) => key, maxLength: 5 },
);
const limiterLines = fc.uniqueArray(
  fc.oneof(
    fc.tuple(fc.constantFrom(...LIMITER_KEYS), fc.constantFrom(...ANY_VALUES)),
    fc.constantFrom(["store", '"s"'], ["rate_per_second", "10"], ["algorithm", '"sliding_window"'], ["limit", "3"]),
  ),
  { selector: ([key]) => key, maxLength: 6 },
);
const section = (header: string) => (lines: readonly (readonly string[])[]) =>
  [header, ...lines.map(([key, value]) => `${key} = ${value}`), ""].join("\n");
const files = fc.record({
  stores: fc.array(storeLines.map(section("[stores.x]")), { maxLength: 1 }),
  memory: fc.constant('[stores.s]\nengine = "memory"\n'),
  limiters: fc.array(limiterLines.map(section("[limiters.a]")), { maxLength: 1 }),
  http: fc.oneof(
    { weight: 4, arbitrary: fc.constant("") },
    fc.constantFrom(...ANY_VALUES).map((value) => `[http]\ntrusted_proxy_networks = ${value}\n`),
    fc.constantFrom(...ANY_VALUES).map((value) => `http = ${value}\n`),
  ),
}).map(({ stores, memory, limiters, http }) => [...stores, memory, ...limiters, http].join(""));

const environment = (name: string) => Object.hasOwn(VARIABLES, name) ? VARIABLES[name] : undefined;
const SNIPPETS = ["[", "]", "=", '"', "\n", "${", "}", "$", "{", ",", "stores", "[limiters.b]", ":-", "$$"];

fuzz(
  "fuzz: parseConfiguration() reads a file or says what is wrong, and shows no secret",
  1_500,
  fc.property(fc.oneof({ weight: 3, arbitrary: files }, damaged(files, SNIPPETS)), (text) => {
    // What stands outside of a value, or in the name of something else, cannot be told from a name.
    const isPlaced = !new RegExp(`^(?!(${SECRET_KEYS.join("|")}) = ).*${SECRET}`, "m").test(text);
    const result = attempt(() => parseConfiguration(text, { file: "rate-sync.toml", environment }));
    if (!result.ok) {
      assert(result.error instanceof ConfigValidationError);
      if (isPlaced) assertDiscreet(result.error);
      return;
    }
    for (const options of result.value.stores.values()) checkStore(options);
    for (const options of result.value.limiters.values()) checkUse({ ...options, store: undefined });
  }),
);

/** A store that was accepted is listed without secrets, and what is wrong with its URL is said without them. */
function checkStore(options: StoreOptions): void {
  // The name of a file, bucket or host is no secret, whatever variable it came from.
  const isElsewhere = ([name, value]: [string, unknown]) =>
    String(value).includes(SECRET) && (!SECRET_KEYS.includes(name) || (name === "url" && value === SECRET));
  if (Object.entries(options).some(isElsewhere)) return;
  if (options.engine !== "nats") return;
  // What an inspector finds in stores and registries is tested on real ones: to look is slow.
  const rateSync = createRateSync({ logger: quiet });
  const configured = attempt(() => rateSync.configureStore("x", options));
  assertDiscreet(configured.ok ? maskStoreOptions(options) : configured.error);
  assertDiscreet(rateSync.listStores());
  const again = attempt(() => rateSync.configureStore("x", { engine: "memory" }));
  if (!again.ok) assertDiscreet(again.error);
}

/** Between two slots of a faster rate the time in milliseconds, as a number, does not move. */
const FINEST_RATE = 1e6;

/** How many a limit that nobody has used admits at one moment. */
function admittedAtOnce(
  { ratePerSecond, burst, limit, windowMs, maxConcurrent, rates = [] }: LimiterOptions,
): number {
  const ofRate = (rate: number, burst = 1) => rate > FINEST_RATE ? Infinity : Math.floor(burst);
  const ofRates = rates.map((rate) =>
    rate.algorithm === "token_bucket" || (rate.algorithm === undefined && rate.burst !== undefined)
      ? ofRate(rate.limit * 1_000 / rate.windowMs, rate.burst)
      : rate.limit
  );
  return Math.min(
    ratePerSecond === undefined ? Infinity : ofRate(ratePerSecond, burst),
    windowMs === undefined ? Infinity : limit ?? Infinity,
    maxConcurrent ?? Infinity,
    ...ofRates,
  );
}

function isFine({ ratePerSecond = 0, rates = [] }: LimiterOptions): boolean {
  return Math.max(ratePerSecond, ...rates.map(({ limit, windowMs }) => limit * 1_000 / windowMs)) > FINEST_RATE;
}

/** A limiter that was accepted holds its limits, and says nothing but numbers that can be used. */
async function checkUse(options: LimiterOptions): Promise<void> {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ logger: quiet, clock });
  rateSync.configureLimiter("a", options);
  await checkLimits(options, rateSync.getLimiter("a"));
  await rateSync.close();
}

async function checkLimits(options: LimiterOptions, limiter: Limiter): Promise<void> {
  const tries = 12;
  const results = [];
  for (let i = 0; i < tries; i++) results.push(await limiter.tryAcquire());
  const admitted = results.filter(({ allowed }) => allowed).length;
  const most = Math.min(tries, admittedAtOnce(options));
  assert(
    admitted === most || (isFine(options) && admitted <= most),
    `${admitted} of ${most}: ${JSON.stringify(options)}`,
  );
  for (const { limit, remaining, resetInMs, retryAfterMs } of results) {
    for (const number of [limit, remaining, resetInMs, retryAfterMs]) {
      assert(Number.isFinite(number) && number >= 0, JSON.stringify({ limit, remaining, resetInMs, retryAfterMs }));
    }
  }
  const { remaining, resetAt, currentUsage } = await limiter.getState();
  for (const number of [remaining, resetAt, currentUsage]) assert(Number.isFinite(number), JSON.stringify(options));
}

const positive = fc.oneof(
  fc.constantFrom(
    1,
    2,
    3,
    0.5,
    2.5,
    1e-9,
    1e9,
    5e-324,
    1e-300,
    1e300,
    Number.MAX_SAFE_INTEGER,
    Number.MAX_VALUE,
    10_000_000,
  ),
  fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
  fc.nat(20),
);
const oftenRight = <T>(right: fc.Arbitrary<T>) => fc.oneof({ weight: 9, arbitrary: right }, anything);
const optional = <T>(right: fc.Arbitrary<T>) => fc.option(oftenRight(right), { nil: undefined });
const algorithms = fc.constantFrom("token_bucket", "sliding_window");
const limiterRecords = fc.record<Record<string, unknown>>({
  algorithm: optional(algorithms),
  ratePerSecond: optional(positive),
  burst: optional(positive),
  maxConcurrent: optional(positive),
  leaseMs: optional(positive),
  limit: optional(positive),
  windowMs: optional(positive),
  rates: optional(fc.array(
    fc.record({
      limit: oftenRight(positive),
      windowMs: oftenRight(positive),
      burst: optional(positive),
      algorithm: optional(algorithms),
    }, { requiredKeys: ["limit", "windowMs"] }),
    { maxLength: 3 },
  )),
  timeoutMs: optional(positive),
  failClosed: optional(fc.boolean()),
  onFailure: optional(fc.constantFrom("open", "closed", "local")),
  backendTimeoutMs: optional(positive),
  reserveAheadMs: optional(positive),
  prefetch: optional(fc.nat(6_000)),
  replace: optional(fc.boolean()),
}, { requiredKeys: [] });
/** So that many are accepted. */
const likelyLimiters = fc.oneof(
  limiterRecords.map((record) => ({ ...record, limit: undefined, windowMs: undefined, algorithm: undefined })),
  limiterRecords.map((record) => ({
    ...record,
    ratePerSecond: undefined,
    burst: undefined,
    algorithm: "sliding_window",
  })),
);

fuzz(
  "fuzz: limiter options in code are refused with the reason, or make a limiter that holds its limits",
  1_000,
  fc.asyncProperty(fc.oneof({ weight: 8, arbitrary: likelyLimiters }, limiterRecords, anything), async (options) => {
    const result = attempt(() => checkLimiterOptions("a", options));
    if (result.ok) await checkUse(result.value);
  }),
);

fuzz(
  "fuzz: a limiter without a registry refuses the options that one with a registry refuses, and holds its limits",
  1_000,
  fc.asyncProperty(fc.oneof({ weight: 8, arbitrary: likelyLimiters }, limiterRecords, anything), async (options) => {
    const clock = createVirtualClock();
    const store = { kv: memoryKv(clock), clock };
    const made = attempt(() => Reflect.apply(createLimiter, undefined, ["a", store, options]) as StandaloneLimiter);
    if (!made.ok) return;
    const checked = checkLimiterOptions("a", withoutLogger(options));
    await checkLimits(checked, made.value);
  }),
);

function withoutLogger(options: unknown): unknown {
  return Object.fromEntries(Object.entries(Object(options)).filter(([name]) => name !== "logger"));
}

const secrets = fc.constantFrom<unknown>(SECRET, [SECRET], { value: SECRET }, ...SECRET_URLS);
const storeRecords = fc.record<Record<string, unknown>>({
  engine: fc.oneof(
    { weight: 5, arbitrary: fc.constant<unknown>("nats") },
    fc.constantFrom("memory", "redis"),
    anything,
  ),
  url: fc.oneof({ weight: 2, arbitrary: fc.constant<unknown>("nats://h") }, fc.constantFrom(...SECRET_URLS), anything),
  connection: fc.option(oftenRight(fc.constant(connectionStub)), { nil: undefined, freq: 1 }),
  kv: fc.option(oftenRight(fc.constant(kvStub)), { nil: undefined, freq: 1 }),
  token: optional(secrets),
  user: optional(fc.constant("user")),
  password: optional(secrets),
  credentialsFile: optional(fc.constant("/etc/x.creds")),
  tlsCaFile: optional(fc.constant("/etc/ca.pem")),
  replicas: optional(fc.constantFrom(1, 3, 6)),
  domain: optional(fc.constantFrom("hub", "a.b", "a b")),
  partitions: optional(fc.constantFrom(1, 6, 64, 65)),
  bucketTtlMs: optional(positive),
  retryIntervalMs: optional(positive),
  maxRetries: optional(positive),
  timingMarginMs: optional(positive),
  breakerFailures: optional(positive),
  breakerCoolDownMs: optional(positive),
  breakerMaxCoolDownMs: optional(positive),
  backendTimeoutMs: optional(positive),
  clock: optional(fc.constantFrom("server", "local")),
  bucketName: optional(fc.constantFrom("rate_limits", "a.b", "a b")),
  replace: optional(fc.boolean()),
  passwrd: fc.option(secrets, { nil: undefined, freq: 1 }),
}, { requiredKeys: ["engine"] }).map((record) => Object.fromEntries(Object.entries(record).filter((_, i) => i < 4)));

fuzz(
  "fuzz: store options in code are refused with the reason, or make a store; nothing shows a secret",
  1_500,
  fc.property(fc.oneof({ weight: 9, arbitrary: storeRecords }, anything), (options) => {
    const result: Attempt<StoreOptions> = attempt(() => checkStoreOptions("x", options));
    if (result.ok) checkStore(result.value);
    else assertDiscreet(result.error);
  }),
);

fuzz(
  "fuzz: isNetwork() knows what an address is as the runtime does",
  1_000,
  fc.property(
    fc.oneof(
      fc.tuple(
        fc.oneof(
          fc.ipV4(),
          fc.ipV6(),
          soup(["::", ":", "1", "ffff", ".", "255", "256", "0", "01", "g", "1.2.3.4"], 12),
        ),
        fc.option(fc.oneof(fc.nat(140).map(String), soup(["0", "8", "/", "-", " "], 3)), { nil: undefined }),
      ),
    ),
    ([address, prefix]) => {
      const family = isIP(address);
      const bits = prefix === undefined ? 0 : /^(0|[1-9]\d*)$/.test(prefix) ? Number(prefix) : Infinity;
      const expected = family !== 0 && bits <= (family === 4 ? 32 : 128);
      assertEquals(isNetwork(prefix === undefined ? address : `${address}/${prefix}`), expected);
    },
  ),
);

test("fuzz: a text of any length is masked in a time that its length bounds", () => {
  for (
    const piece of [
      "eyJ-",
      "eyJaaaaaaaa.",
      "SUAAAAAA",
      "nats://",
      "a://b@",
      "@",
      "-",
      "a",
      ".",
      "a://",
      "(",
      "-----BEGIN",
    ]
  ) {
    maskText(piece.repeat(100_000));
  }
});
