import { assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { parseConfiguration } from "../../src/config/load.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import { ConfigValidationError, RateLimiterError } from "../../src/core/errors.ts";
import { resolveLimiter } from "../../src/core/limiter/defaults.ts";

type Variables = Readonly<Record<string, string>>;

function load(text: string, variables: Variables = {}, knownStores: readonly string[] = []) {
  const environment = (name: string) => Object.hasOwn(variables, name) ? variables[name] : undefined;
  return parseConfiguration(text, { file: "rate-sync.toml", environment, knownStores });
}

function refusal(text: string, variables: Variables = {}): ConfigValidationError {
  const error = assertThrows(() => load(text, variables), ConfigValidationError);
  assertStringIncludes(error.message, "rate-sync.toml: ");
  assertStringIncludes(error.message, error.field);
  return error;
}

/** A file with one store and one limiter that consists of these lines. */
function limiterFile(...lines: string[]): string {
  return ['[stores.s]\nengine = "memory"\n[limiters.a]\nstore = "s"', ...lines].join("\n");
}

function storeFile(...lines: string[]): string {
  return ['[stores.n]\nengine = "nats"\nurl = "nats://h:4222"', ...lines].join("\n");
}

function loadLimiter(lines: string, variables: Variables = {}): LimiterOptions {
  const limiter = load(limiterFile(lines), variables).limiters.get("a");
  if (limiter === undefined) throw new Error("no limiter");
  return limiter;
}

test("parseConfiguration() reads stores, limiters and HTTP settings, in milliseconds [CFG-6, CFG-16]", () => {
  const { stores, limiters, http } = load(`
[stores.local]
engine = "memory"

[stores.nats]
engine = "nats"
url = "tls://h1:4222,tls://h2:4222"
user = "me"
password = "123456"
tls_ca_file = "ca.pem"
tls_cert_file = "cert.pem"
tls_key_file = "key.pem"
bucket_name = "rate_limits"
partitions = 6
auto_create = true
replicas = 3
storage = "memory"
bucket_ttl = 0
retry_interval = 0.07
max_retries = 100
timing_margin_ms = 10.0
backend_timeout = 1.5
breaker_failures = 3
breaker_cool_down = 0.25
breaker_max_cool_down = 60
clock = "local"

[limiters.api]
store = "nats"
algorithm = "token_bucket"
rate_per_second = 42.5
burst = 20
max_concurrent = 10000
lease = 5
timeout = 0.05
fail_closed = true
backend_timeout = 0.5
reserve_ahead = 0

[limiters.login]
store = "local"
algorithm = "sliding_window"
limit = 5
window_seconds = 0.5
max_concurrent = 2
on_failure = "local"

[limiters.many]
store = "local"
rates = [{ limit = 10, window_seconds = 1 }, { limit = 1000, window_seconds = 3600, burst = 50, algorithm = "token_bucket" }]

[http]
trusted_proxy_networks = ["10.0.0.0/8", "fc00::/7"]
`);
  assertEquals([...stores], [
    ["local", { engine: "memory" }],
    ["nats", {
      engine: "nats",
      url: "tls://h1:4222,tls://h2:4222",
      user: "me",
      password: "123456",
      tlsCaFile: "ca.pem",
      tlsCertFile: "cert.pem",
      tlsKeyFile: "key.pem",
      bucketName: "rate_limits",
      partitions: 6,
      autoCreate: true,
      replicas: 3,
      storage: "memory",
      bucketTtlMs: 0,
      retryIntervalMs: 70,
      maxRetries: 100,
      timingMarginMs: 10,
      backendTimeoutMs: 1_500,
      breakerFailures: 3,
      breakerCoolDownMs: 250,
      breakerMaxCoolDownMs: 60_000,
      clock: "local",
    }],
  ]);
  assertEquals([...limiters], [
    ["api", {
      store: "nats",
      algorithm: "token_bucket",
      ratePerSecond: 42.5,
      burst: 20,
      maxConcurrent: 10_000,
      leaseMs: 5_000,
      timeoutMs: 50,
      failClosed: true,
      backendTimeoutMs: 500,
      reserveAheadMs: 0,
    }],
    ["login", {
      store: "local",
      algorithm: "sliding_window",
      limit: 5,
      windowMs: 500,
      maxConcurrent: 2,
      onFailure: "local",
    }],
    ["many", {
      store: "local",
      rates: [
        { limit: 10, windowMs: 1_000 },
        { limit: 1_000, windowMs: 3_600_000, burst: 50, algorithm: "token_bucket" },
      ],
    }],
  ]);
  assertEquals(http, { trustedProxyNetworks: ["10.0.0.0/8", "fc00::/7"] });
});

/** Durations as they are given by somebody who takes the unit for milliseconds, and what that would be in seconds. */
const TAKEN_FOR_MILLISECONDS = [
  { kind: "stores", key: "backend_timeout", given: 2_000, meant: 2 },
  { kind: "stores", key: "retry_interval", given: 50, meant: 0.05 },
  { kind: "stores", key: "breaker_cool_down", given: 500, meant: 0.5 },
  { kind: "stores", key: "breaker_max_cool_down", given: 5_000, meant: 5 },
  { kind: "limiters", key: "backend_timeout", given: 250, meant: 0.25 },
  { kind: "limiters", key: "lease", given: 10_000, meant: 10 },
  { kind: "limiters", key: "timeout", given: 30_000, meant: 30 },
  { kind: "limiters", key: "reserve_ahead", given: 1_000, meant: 1 },
] as const;

test("parseConfiguration() warns about durations that were probably meant in milliseconds", () => {
  for (const { kind, key, given, meant } of TAKEN_FOR_MILLISECONDS) {
    const [place, fileWith] = kind === "stores"
      ? ["stores.n", storeFile] as const
      : ["limiters.a", (line: string) => limiterFile("max_concurrent = 1", line)] as const;
    assertEquals(load(fileWith(`${key} = ${given}`)).warnings, [
      `rate-sync.toml: ${place}.${key} is ${given} seconds; did you mean ${meant}? Durations in TOML are in seconds.`,
    ]);
    assertEquals(load(fileWith(`${key} = ${meant}`)).warnings, []);
  }
});

test("parseConfiguration() does not warn about durations that somebody may well want", () => {
  const store = "backend_timeout = 60\nretry_interval = 10\nbreaker_cool_down = 60\nbreaker_max_cool_down = 600";
  const limiter = "max_concurrent = 1\nlease = 3600\ntimeout = 3600\nreserve_ahead = 600\nbackend_timeout = 60";
  const window = "rates = [{ limit = 1000, window_seconds = 86400 }]";
  assertEquals(load(storeFile(store, "bucket_ttl = 604800")).warnings, []);
  assertEquals(load(limiterFile(limiter, window)).warnings, []);
});

test("parseConfiguration() warns about a duration from a variable without showing it", () => {
  const { warnings } = load(limiterFile('max_concurrent = 1\nlease = "${LEASE}"'), { LEASE: "98765" });
  assertEquals(warnings, [
    "rate-sync.toml: limiters.a.lease is more than 3600 seconds, from ${LEASE}; did you mean a thousandth of that? " +
    "Durations in TOML are in seconds.",
  ]);
});

test("parseConfiguration() accepts an empty file [CFG-6]", () => {
  for (const text of ["", "\uFEFF", "# nothing\r\n", "[stores]\n[limiters]\n[fastapi]"]) {
    const { stores, limiters, http } = load(text);
    assertEquals([stores.size, limiters.size, http], [0, 0, {}]);
  }
});

test("parseConfiguration() loads upstream's own files unchanged [CFG-16, CFG-24]", () => {
  const upstream = `
[stores.nats]
engine = "nats"
url = "nats://localhost:4222"            # Required
token = ""                               # Optional auth token
bucket_name = "rate_limits"              # KV bucket name
auto_create = false                      # Create bucket if missing
retry_interval = 0.05                    # CAS retry interval
max_retries = 100                        # Max CAS retries
timing_margin_ms = 10.0                  # Timing safety margin

[stores.main]
engine = "\${RATE_LIMIT_ENGINE:-memory}"
url = "\${RATE_LIMIT_URL:-}"

[limiters.external_api]
store = "main"
rate_per_second = 10.0
max_concurrent = 5
timeout = 30.0

[limiters.exclusive_task]
store = "nats"
max_concurrent = 1
timeout = 0.0

[limiters."\${DYNAMIC_LIMITER_ID:-api_dynamic}"]
store = "main"
rate_per_second = "\${DYNAMIC_RATE:-3.0}"
timeout = 15.0
`;
  const { stores, limiters } = load(upstream);
  assertEquals(stores.get("nats"), {
    engine: "nats",
    url: "nats://localhost:4222",
    bucketName: "rate_limits",
    autoCreate: false,
    retryIntervalMs: 50,
    maxRetries: 100,
    timingMarginMs: 10,
  });
  assertEquals(stores.get("main"), { engine: "memory" });
  assertEquals(limiters.get("exclusive_task"), { store: "nats", maxConcurrent: 1, timeoutMs: 0 });
  assertEquals(limiters.get("api_dynamic"), { store: "main", ratePerSecond: 3, timeoutMs: 15_000 });

  const production = load(upstream, { RATE_LIMIT_ENGINE: "nats", RATE_LIMIT_URL: "nats://u:p@h" });
  assertEquals(production.stores.get("main"), { engine: "nats", url: "nats://u:p@h" });
});

test("parseConfiguration() names the file, and what to do, when it is not TOML [CFG-3, CFG-5]", () => {
  const error = refusal("[stores.a\n");
  assertStringIncludes(error.message, "Failed to parse TOML file");
  assertEquals([error.field, error.expected, error.received, error.file], [
    "config_file",
    "valid TOML",
    "rate-sync.toml",
    "rate-sync.toml",
  ]);
});

test("parseConfiguration() names the nearest known table for an unknown one [CFG-6]", () => {
  assertStringIncludes(refusal("[limiter.a]\nx = 1").message, "Did you mean 'limiters'?");
  assertStringIncludes(refusal("[Stores.a]\nengine = 'memory'").message, "Did you mean 'stores'?");
  assertEquals(refusal("[logging]\nlevel = 1").field, "logging");
  assertEquals(refusal("timeout = 5").field, "timeout");
});

test("parseConfiguration() refuses a section, a store or a limiter that is no table [CFG-7]", () => {
  const cases: [text: string, field: string, received: string][] = [
    ["stores = 5", "stores", "5"],
    ["limiters = true", "limiters", "true"],
    ["limiters = []", "limiters", "a list"],
    ["fastapi = 'x'", "fastapi", '"x"'],
    ["http = 1.5", "http", "1.5"],
    ["[[limiters]]\nstore = 's'", "limiters", "a list"],
    ["[[stores]]\nengine = 'memory'", "stores", "a list"],
    ["[[http]]", "http", "a list"],
    ["[stores]\na = 5", "stores.a", "5"],
    ["[stores]\nengine = 'memory'", "stores.engine", '"memory"'],
    ["[limiters]\na = ['x']", "limiters.a", "a list"],
    ["[[limiters.a]]\nstore = 's'", "limiters.a", "a list"],
  ];
  for (const [text, field, received] of cases) {
    const error = refusal(text);
    assertEquals([error.field, error.expected, error.received], [field, "a table", received], text);
  }
});

test("parseConfiguration() refuses a store without an engine [CFG-8]", () => {
  const error = refusal("[stores.a]\nurl = 'nats://h'");
  assertEquals([error.field, error.received], ["stores.a.engine", "missing"]);
  assertStringIncludes(error.message, "'a': Missing required field 'engine'");
});

test("parseConfiguration() refuses an engine that it does not have [CFG-9]", () => {
  const error = refusal("[stores.a]\nengine = 'redis'\nurl = 'redis://u:s3cr3t@h'");
  assertStringIncludes(
    error.message,
    "Failed to configure store 'a': Unknown engine 'redis'. Available engines: memory, nats.",
  );
  assertEquals(error.field, "stores.a.engine");
  assertEquals(error.message.includes("s3cr3t"), false);
  assertStringIncludes(refusal("[stores.a]\nengine = 'natz'").message, "Did you mean 'nats'?");
  for (const engine of ["'postgres'", "''", "'NATS'", "5", "true", "['nats']", "{}", "'__proto__'"]) {
    assertEquals(refusal(`[stores.a]\nengine = ${engine}`).field, "stores.a.engine", engine);
  }
});

test("parseConfiguration() refuses an unknown key and names the one that was meant [CFG-10]", () => {
  const cases: [text: string, field: string, meant: string | undefined][] = [
    [limiterFile("rate_per_secnd = 1"), "limiters.a.rate_per_secnd", "rate_per_second"],
    [limiterFile("ratePerSecond = 1"), "limiters.a.ratePerSecond", "rate_per_second"],
    [limiterFile("rate-per-second = 1"), "limiters.a.rate-per-second", "rate_per_second"],
    [limiterFile("windowMs = 1"), "limiters.a.windowMs", "window_seconds"],
    [limiterFile("timeoutMs = 1"), "limiters.a.timeoutMs", "timeout"],
    [limiterFile("time_out = 1"), "limiters.a.time_out", "timeout"],
    [limiterFile("failclosed = true"), "limiters.a.failclosed", "fail_closed"],
    [limiterFile("Burst = 1"), "limiters.a.Burst", "burst"],
    [limiterFile("replace = true"), "limiters.a.replace", undefined],
    [limiterFile("rate_per_second = 1\n[limiters.a.extra]\nx = 1"), "limiters.a.extra", undefined],
    [limiterFile("rate_per_second = 1\ntoken = 's3cr3t'"), "limiters.a.token", undefined],
    [limiterFile("rates = [{ limit = 1, windw_seconds = 1 }]"), "limiters.a.rates[0].windw_seconds", "window_seconds"],
    [storeFile("bucket = 'x'"), "stores.n.bucket", undefined],
    [storeFile("bucketName = 'x'"), "stores.n.bucketName", "bucket_name"],
    [storeFile("pasword = 's3cr3t'"), "stores.n.pasword", "password"],
    [storeFile("timing_margin = 1"), "stores.n.timing_margin", "timing_margin_ms"],
    [storeFile("connection = 1"), "stores.n.connection", undefined],
    [storeFile("[stores.n.tls]\nca = 'x'"), "stores.n.tls", undefined],
    ["[stores.a]\nengine = 'memory'\nmax_size = 1", "stores.a.max_size", undefined],
    ["[stores.a]\nengine = 'memory'\ntoken = 's3cr3t'", "stores.a.token", undefined],
    ["[http]\ntrusted_proxies = []", "http.trusted_proxies", undefined],
    ["[fastapi]\ntrustedProxyNetworks = []", "fastapi.trustedProxyNetworks", "trusted_proxy_networks"],
  ];
  for (const [text, field, meant] of cases) {
    const error = refusal(text);
    assertEquals(error.field, field);
    if (meant !== undefined) assertStringIncludes(error.message, `Did you mean '${meant}'?`);
    assertEquals(error.message.includes("s3cr3t"), false);
  }
});

test("parseConfiguration() sees a mistyped engine, and an id whose dot stands for a table [CFG-8, CFG-10]", () => {
  assertStringIncludes(refusal('[stores.a]\nengin = "memory"').message, "Is 'engin' meant to be it?");
  const { message } = refusal('[stores.m]\nengine = "memory"\n[limiters.a.b]\nstore = "m"\nrate_per_second = 1');
  assertStringIncludes(message, `Unknown option 'b'. An id with a dot is written in quotes: [limiters."a.b"].`);
});

test("parseConfiguration() says that a memory store takes no options of nats [CFG-10, STO-3]", () => {
  const error = refusal("[stores.a]\nengine = 'memory'\nurl = 'nats://u:s3cr3t@h'");
  assertEquals(error.field, "stores.a.url");
  assertStringIncludes(error.message, "engine 'nats'");
  assertEquals(error.message.includes("s3cr3t"), false);
});

test("parseConfiguration() refuses a limiter whose store is neither in the file nor known [CFG-11]", () => {
  const error = refusal("[stores.a]\nengine = 'memory'\n[limiters.l]\nstore = 'b'\nrate_per_second = 1");
  assertEquals([error.field, error.expected, error.received], ["limiters.l.store", "one of 'a'", '"b"']);
  assertStringIncludes(error.message, "references unknown store 'b'.");
  const text = "[limiters.l]\nstore = 'b'\nrate_per_second = 1";
  assertEquals(refusal(text).field, "limiters.l.store");
  assertEquals(load(text, {}, ["b"]).limiters.get("l"), { store: "b", ratePerSecond: 1 });
});

test("parseConfiguration() accepts a limiter above its store [CFG-11]", () => {
  assertEquals(load("[limiters.l]\nstore = 'b'\nrate_per_second = 1\n[stores.b]\nengine = 'memory'").limiters.size, 1);
});

test("parseConfiguration() refuses a limiter without a store [CFG-12]", () => {
  const error = refusal("[limiters.l]\nrate_per_second = 1");
  assertEquals([error.field, error.received], ["limiters.l.store", "missing"]);
  assertStringIncludes(error.message, "Missing required field 'store' in limiter config");
});

test("parseConfiguration() gives the reason inside a limiter [CFG-13, LIM-2, LIM-4]", () => {
  const cases: [lines: string, field: string, reason: string][] = [
    ["rate_per_second = 0", "rate_per_second", "rate_per_second must be > 0, got 0"],
    ["rate_per_second = -1", "rate_per_second", "rate_per_second must be > 0, got -1"],
    ["max_concurrent = 0", "max_concurrent", "max_concurrent must be >= 1, got 0"],
    ["", "rate_per_second", "token_bucket requires at least one of 'rate_per_second', 'max_concurrent' or 'rates'"],
    ["rates = []", "rates", "Fill it, or give 'rate_per_second' or 'max_concurrent'"],
    ['algorithm = "sliding_window"', "limit", "sliding_window requires both 'limit' and 'window_seconds'"],
    ['algorithm = "sliding_window"\nlimit = 5', "window_seconds", "sliding_window requires both"],
    ['algorithm = "sliding_window"\nwindow_seconds = 5', "limit", "sliding_window requires both"],
    [
      'algorithm = "sliding_window"\nrate_per_second = 5',
      "limit",
      "sliding_window requires both 'limit' and 'window_seconds'. 'rate_per_second' belongs to token_bucket.",
    ],
    ['algorithm = "sliding_window"\nlimit = 5\nwindow_seconds = 0', "window_seconds", "must be > 0, got 0"],
    ['algorithm = "sliding_window"\nlimit = -5\nwindow_seconds = 1', "limit", "limit must be >= 1, got -5"],
    ['algorithm = "sliding_window"\nlimit = 5\nwindow_seconds = 1\nburst = 2', "burst", "belongs to token_bucket"],
    [
      "rate_per_second = 1\nlimit = 5",
      "limit",
      "Cannot specify both token_bucket (rate_per_second) and sliding_window",
    ],
    ["rate_per_second = 1\nwindow_seconds = 5", "window_seconds", "Cannot specify both"],
    [
      'algorithm = "sliding_window"\nrate_per_second = 1\nlimit = 5\nwindow_seconds = 5',
      "rate_per_second",
      "Cannot specify both",
    ],
    ["limit = 5\nwindow_seconds = 60", "limit", "belongs to sliding_window"],
    ["max_concurrent = 1\nwindow_seconds = 60", "window_seconds", "belongs to sliding_window"],
    ["max_concurrent = 1\nburst = 2", "burst", "needs 'rate_per_second'"],
    ['rate_per_second = 1\nfail_closed = true\non_failure = "open"', "on_failure", "contradicts"],
    ['rate_per_second = 1\nfail_closed = true\non_failure = "local"', "on_failure", "contradicts"],
    ['rate_per_second = 1\nfail_closed = false\non_failure = "closed"', "on_failure", "contradicts"],
    ["rates = [{ limit = 1 }]", "rates[0].window_seconds", "Missing required field 'window_seconds'"],
    [
      "rates = [{ limit = 1, window_seconds = 1 }, { window_seconds = 1 }]",
      "rates[1].limit",
      "Missing required field 'limit'",
    ],
    ["rates = [{ limit = 0, window_seconds = 1 }]", "rates[0].limit", "limit must be >= 1, got 0"],
    [
      'rates = [{ limit = 1, window_seconds = 1, burst = 2, algorithm = "sliding_window" }]',
      "rates[0].burst",
      "belongs to token_bucket",
    ],
    ["rates = [5]", "rates[0]", "a table with limit and window_seconds"],
    ['rates = ["$VALUE"]', "rates[0]", "a table with limit and window_seconds"],
    ["rates = { limit = 1, window_seconds = 1 }", "rates", "a list of tables"],
    ["rates = 5", "rates", "a list of tables"],
  ];
  for (const [lines, field, reason] of cases) {
    const error = refusal(limiterFile(lines), { VALUE: "s3cr3t" });
    assertEquals(error.field, `limiters.a.${field}`, lines);
    assertStringIncludes(error.message, reason);
    assertStringIncludes(error.message, "Limiter 'a'");
    assertEquals(error.message.includes("s3cr3t"), false);
  }
});

test("parseConfiguration() returns nothing when anything is wrong, wherever it stands [CFG-14]", () => {
  const right = limiterFile("rate_per_second = 1");
  assertEquals(load(right).limiters.size, 1);
  for (
    const wrong of [
      "[limiters.z]\nstore = 's'",
      "[stores.z]",
      "[http]\nx = 1",
      "[limiters.z]\nstore = 's'\nrate_per_second = 0",
    ]
  ) {
    refusal(`${right}\n${wrong}`);
  }
});

test("parseConfiguration() says nothing about what an earlier file configured but the stores it may name [CFG-15]", () => {
  const first = load("[stores.shared]\nengine = 'memory'");
  const second = load("[limiters.l]\nstore = 'shared'\nrate_per_second = 1", {}, [...first.stores.keys()]);
  assertEquals([second.stores.size, [...second.limiters.keys()]], [0, ["l"]]);
});

test("parseConfiguration() refuses a value of a wrong type in every option [CFG-17]", () => {
  const numbers = [
    "true",
    "nan",
    "inf",
    "-inf",
    "-1",
    "'soon'",
    "''",
    "'1_000'",
    "'0x10'",
    "' 5 '",
    "'1e999'",
    "'nan'",
    "'inf'",
    "'true'",
    "[]",
    "[1]",
    "{}",
    "1e400",
  ];
  const integers = [...numbers, "2.5", "'2.5'", "0", "1e30"];
  const positives = [...numbers, "0", "-0.0"];
  const booleans = ["1", "0", "'yes'", "'True'", "'1'", "''", "[true]", "{}", "nan"];
  const texts = ["5", "true", "1.5", "[]", "['x']", "{}"];
  const wrong: Record<string, readonly string[]> = {
    algorithm: [...texts, "'bogus'", "''", "'Token_Bucket'", "'sliding'"],
    rate_per_second: [...positives, "1e10", "1e-12"],
    burst: [...positives, "0.5"],
    max_concurrent: integers,
    lease: positives,
    limit: integers,
    window_seconds: positives,
    timeout: numbers,
    fail_closed: booleans,
    on_failure: [...texts, "'fail'", "''"],
    backend_timeout: positives,
    reserve_ahead: numbers,
    prefetch: [...numbers, "0.5", "5001"],
    store: [...texts, "''", "' '"],
    rates: ["5", "true", "'x'", "[[]]", "[1]"],
  };
  for (const [key, values] of Object.entries(wrong)) {
    for (const value of values) {
      const text = key === "store"
        ? `[limiters.a]\nstore = ${value}\nrate_per_second = 1`
        : `[stores.s]\nengine = 'memory'\n[limiters.a]\nstore = 's'\n${key} = ${value}`;
      const error = refusal(text);
      assertEquals(error.field.startsWith(`limiters.a.${key}`), true, `${key} = ${value}: ${error.message}`);
    }
  }
});

test("parseConfiguration() refuses a value of a wrong type in every option of a store [CFG-17]", () => {
  const texts = ["5", "true", "[]", "{}"];
  const numbers = ["true", "nan", "inf", "-1", "'soon'", "''", "[]", "{}"];
  const booleans = ["1", "0", "'yes'", "''", "[]"];
  const wrong: Record<string, readonly string[]> = {
    url: [...texts, "' '"],
    token: texts,
    user: texts,
    password: texts,
    credentials_file: [...texts, `'SU${"A2".repeat(28)}'`, `'''-----BEGIN NATS USER JWT-----\nx'''`],
    nkey_seed_file: [...texts, `'SU${"A2".repeat(28)}'`],
    tls_ca_file: [...texts, `'''-----BEGIN CERTIFICATE-----\nx'''`],
    tls_cert_file: texts,
    tls_key_file: texts,
    bucket_name: [...texts, "''", "'a b'", "'a.b'", "'a*'", "'é'"],
    domain: [...texts, "'a b'", "'a.b'", "'a*'", "'>'", "'é'"],
    partitions: [...numbers, "0", "65", "1.5"],
    auto_create: booleans,
    replicas: [...numbers, "0", "6", "2.5"],
    storage: [...texts, "'disk'", "''"],
    bucket_ttl: numbers,
    retry_interval: [...numbers, "0"],
    max_retries: [...numbers, "0", "1.5"],
    timing_margin_ms: numbers,
    backend_timeout: [...numbers, "0"],
    breaker_failures: [...numbers, "0.5"],
    breaker_cool_down: [...numbers, "0"],
    breaker_max_cool_down: [...numbers, "0"],
    clock: [...texts, "'utc'", "''"],
  };
  for (const [key, values] of Object.entries(wrong)) {
    for (const value of values) {
      const url = key === "url" ? "" : "url = 'nats://h'\n";
      const error = refusal(`[stores.n]\nengine = 'nats'\n${url}${key} = ${value}`);
      assertEquals(error.field, `stores.n.${key}`, `${key} = ${value}: ${error.message}`);
      assertEquals(error.message.includes("SUA2"), false);
    }
  }
});

test("parseConfiguration() refuses a numeric timeout given as text, and says what it got [CFG-17]", () => {
  const error = refusal(limiterFile('rate_per_second = 1\ntimeout = "soon"'));
  assertStringIncludes(error.message, 'timeout must be a number in seconds >= 0, got "soon"');
  assertEquals(error.received, '"soon"');
});

test("parseConfiguration() refuses options of a store that contradict each other", () => {
  const cases: [lines: string, field: string][] = [
    ["user = 'me'", "password"],
    ["password = 's3cr3t'", "user"],
    ["token = 's3cr3t'\nuser = 'me'\npassword = 's3cr3t'", "user"],
    ["token = 's3cr3t'\ncredentials_file = 'x.creds'", "credentials_file"],
    ["nkey_seed_file = 'x.nk'\ncredentials_file = 'x.creds'", "nkey_seed_file"],
    ["tls_cert_file = 'x.pem'", "tls_key_file"],
    ["tls_key_file = 'x.pem'", "tls_cert_file"],
  ];
  for (const [lines, field] of cases) {
    const error = refusal(storeFile(lines));
    assertEquals(error.field, `stores.n.${field}`, lines);
    assertEquals(error.message.includes("s3cr3t"), false);
  }
  const twice = refusal("[stores.n]\nengine = 'nats'\nurl = 'nats://s3cr3t@h'\ntoken = 's3cr3t'");
  assertEquals(twice.field, "stores.n.token");
  assertEquals(twice.message.includes("s3cr3t"), false);
});

test("parseConfiguration() refuses a nats store without a url, and with an empty one [STO-1]", () => {
  for (const url of ["", "url = ''", "url = '${UNSET:-}'"]) {
    const error = refusal(`[stores.n]\nengine = 'nats'\n${url}`);
    assertEquals(error.field, "stores.n.url");
    assertStringIncludes(error.message, "Missing required field 'url' for engine 'nats'");
  }
});

test("parseConfiguration() refuses ids that are empty, padded or reserved", () => {
  for (const [section, body] of [["stores", "engine = 'memory'"], ["limiters", "store = 's'"]]) {
    for (const id of ["''", "' '", "' a'", "'a '", "__proto__", "constructor", '"a\\n"']) {
      refusal(`[${section}.${id}]\n${body}`);
    }
    refusal(`[${section}."\${ID}"]\n${body}`, { ID: "__proto__" });
    refusal(`[${section}."\${ID}"]\n${body}`, { ID: "" });
  }
});

test("parseConfiguration() fills in the documented defaults only when a limiter is resolved [CFG-18]", () => {
  const options = loadLimiter("rate_per_second = 1");
  assertEquals(options, { store: "s", ratePerSecond: 1 });
  const config = resolveLimiter("a", options, { backendTimeoutMs: 2_000 });
  assertEquals(
    [config.algorithm, config.maxConcurrent, config.limit, config.windowMs, config.timeoutMs, config.failClosed],
    ["token_bucket", null, null, null, null, false],
  );
});

test("parseConfiguration() has nothing to say about a low rate [CFG-19, LIM-3]", () => {
  for (const rate of [0.001, 0.5, 9.99, 42.5]) {
    assertEquals(loadLimiter(`rate_per_second = ${rate}`), { store: "s", ratePerSecond: rate });
  }
});

test("parseConfiguration() expands variables in values, lists and names [CFG-20, CFG-21, CFG-22]", () => {
  const { stores, limiters, http } = load(
    `
[stores."\${ID}"]
engine = "nats"
url = "nats://\${H}:\${P:-4222}"
bucket_name = "\${B:-\${C:-limits}}"
[limiters."$L"]
store = "$ID"
rate_per_second = 1
[http]
trusted_proxy_networks = ["$NET"]
`,
    { ID: "main", H: "h", L: "api", NET: "10.0.0.0/8" },
  );
  assertEquals(stores.get("main"), { engine: "nats", url: "nats://h:4222", bucketName: "limits" });
  assertEquals(limiters.get("api"), { store: "main", ratePerSecond: 1 });
  assertEquals(http.trustedProxyNetworks, ["10.0.0.0/8"]);
});

test("parseConfiguration() names the variable and the field when a variable is not set [CFG-23]", () => {
  const error = refusal(limiterFile('rate_per_second = "${API_RATE}"'));
  assertEquals(error.field, "limiters.a.rate_per_second");
  assertStringIncludes(error.message, "API_RATE");
  assertEquals(refusal(limiterFile('rate_per_second = "${API_RATE"')).field, "limiters.a.rate_per_second");
});

test("parseConfiguration() takes an empty login, and an empty path of a file, as none [CFG-24]", () => {
  const empty = ["token", "user", "password", "credentials_file", "nkey_seed_file", "tls_ca_file"];
  const lines = [...empty, "tls_cert_file", "tls_key_file"].map((name) => `${name} = "\${UNSET:-}"`);
  assertEquals(load(storeFile(...lines)).stores.get("n"), { engine: "nats", url: "nats://h:4222" });
});

test("parseConfiguration() takes the default for an empty variable [CFG-25]", () => {
  assertEquals(loadLimiter('rate_per_second = "${R:-2}"', { R: "" }), { store: "s", ratePerSecond: 2 });
});

test("parseConfiguration() converts by the type of the option: tokens and ids of digits stay texts [CFG-26]", () => {
  const { stores, limiters } = load(
    `
[stores.123]
engine = "nats"
url = "nats://h"
user = "42"
password = "\${P}"
bucket_name = "007"
[limiters.1e3]
store = "123"
rate_per_second = 1
`,
    { P: "1e3" },
  );
  assertEquals(stores.get("123"), { engine: "nats", url: "nats://h", user: "42", password: "1e3", bucketName: "007" });
  assertEquals(limiters.get("1e3"), { store: "123", ratePerSecond: 1 });
});

test("parseConfiguration() refuses a number where a text belongs, without showing a secret [CFG-26]", () => {
  const error = refusal(storeFile("token = 123456"));
  assertEquals(error.field, "stores.n.token");
  assertStringIncludes(error.message, "in quotes");
  assertEquals(error.message.includes("123456"), false);
});

test("parseConfiguration() takes numbers and booleans as text [CFG-27]", () => {
  const limiter = loadLimiter(
    `rate_per_second = "\${RATE:-10.0}"\nmax_concurrent = "\${N}"\ntimeout = "1e-1"\nburst = ".5e1"\nfail_closed = "\${F}"\nlease = "007"`,
    { N: "25", F: "true" },
  );
  assertEquals(limiter, {
    store: "s",
    ratePerSecond: 10,
    maxConcurrent: 25,
    timeoutMs: 100,
    burst: 5,
    failClosed: true,
    leaseMs: 7_000,
  });
  assertEquals(load(storeFile('auto_create = "false"')).stores.get("n"), {
    engine: "nats",
    url: "nats://h:4222",
    autoCreate: false,
  });
});

test("parseConfiguration() refuses two tables that expand to the same id [CFG-28]", () => {
  const text = `[stores.a]\nengine = "memory"\n[stores."\${ID}"]\nengine = "memory"`;
  assertStringIncludes(refusal(text, { ID: "a" }).message, "'${ID}'");
  assertEquals(load(text, { ID: "b" }).stores.size, 2);
});

test("parseConfiguration() takes $$ as a literal $ [CFG-29]", () => {
  const { stores } = load(storeFile('user = "me"\npassword = "pa$$word"'));
  assertEquals(stores.get("n"), { engine: "nats", url: "nats://h:4222", user: "me", password: "pa$word" });
});

test("parseConfiguration() refuses trusted proxy networks that are no list [CFG-30]", () => {
  for (const section of ["fastapi", "http"]) {
    for (const value of ["'10.0.0.0/8'", "5", "true", "{}"]) {
      const error = refusal(`[${section}]\ntrusted_proxy_networks = ${value}`);
      assertEquals(error.field, `${section}.trusted_proxy_networks`);
      assertStringIncludes(error.message, "trusted_proxy_networks must be a list of CIDR networks");
    }
  }
});

test("parseConfiguration() tells no trusted networks from unset ones, and one table from two [CFG-30]", () => {
  assertEquals(load("[fastapi]\ntrusted_proxy_networks = []").http, { trustedProxyNetworks: [] });
  assertEquals(load("[fastapi]").http, {});
  assertEquals(refusal("[http]\n[fastapi]").field, "fastapi");
});

test("parseConfiguration() checks every CIDR network [CFG-31]", () => {
  for (const network of ["'10.0.0.0/33'", "'localhost'", "5", "''", "[]"]) {
    const error = refusal(`[fastapi]\ntrusted_proxy_networks = ["10.0.0.0/8", ${network}]`);
    assertEquals(error.field, "fastapi.trusted_proxy_networks[1]", network);
  }
});

test("parseConfiguration() shows the name of a table as it was written, and not what a variable made of it", () => {
  const variables = { ID: "s3cr3t" };
  const texts = [
    '["$ID"]',
    '[http."$ID"]',
    '[stores.a]\nengine = "memory"\n"$ID" = {}',
    '[limiters.a."$ID"]',
    '["$ID".b]\nc = "$D"',
  ];
  for (const text of texts) {
    const error = refusal(text, variables);
    assertStringIncludes(error.field, "$ID");
    assertEquals(error.message.includes("s3cr3t"), false, error.message);
  }
});

test("parseConfiguration() never shows what came from a variable", () => {
  const texts = [
    limiterFile('rate_per_second = "$SECRET"'),
    limiterFile('rate_per_second = "1$SECRET"'),
    limiterFile('rate_per_second = 1\nfail_closed = "${SECRET}"'),
    limiterFile('rate_per_second = 1\non_failure = "${UNSET:-$SECRET}"'),
    limiterFile('rate_per_second = 1\ntimeout = "${SECRET:-1}"'),
    limiterFile('algorithm = "$SECRET"'),
    limiterFile('rates = "$SECRET"'),
    limiterFile('rates = [{ limit = "$SECRET" }]'),
    limiterFile('rates = ["$SECRET"]'),
    limiterFile('rate_per_second = ["$SECRET"]'),
    '[limiters.l]\nstore = "$SECRET"\nrate_per_second = 1',
    '[stores]\na = "$SECRET"',
    'stores = "$SECRET"',
    '[stores.a]\nengine = "$SECRET"',
    '[stores.a]\nengine = "memory"\nurl = "$SECRET"',
    storeFile('bucket_name = "$SECRET!"'),
    storeFile('replicas = "$SECRET"'),
    storeFile('credentials_file = "-----BEGIN $SECRET"'),
    storeFile('token = ["$SECRET"]'),
    '[http]\ntrusted_proxy_networks = ["$SECRET"]',
    '[http]\ntrusted_proxy_networks = "$SECRET"',
  ];
  for (const text of texts) {
    const error = refusal(text, { SECRET: "hunter2" });
    assertEquals(error.message.includes("hunter2"), false, error.message);
    assertEquals(error.received.includes("hunter2"), false);
  }
  const shown = refusal(texts[0] ?? "", { SECRET: "hunter2" });
  assertStringIncludes(shown.message, "${SECRET}");
});

test("parseConfiguration() throws nothing but ConfigValidationError, whatever the file (property)", () => {
  const key = fc.constantFrom(
    "store",
    "engine",
    "url",
    "rates",
    "limit",
    "timeout",
    "burst",
    "algorithm",
    "x",
    "token",
    "a.b",
    "'$X'",
  );
  const value = fc.oneof(
    fc.constantFrom(
      "1",
      "-1",
      "nan",
      "true",
      "'s'",
      "'memory'",
      "'nats'",
      "[]",
      "[{}]",
      "{}",
      "'$X'",
      "1979-05-27",
      "'${'",
      "[1, 'a']",
    ),
    fc.string().map((text) => JSON.stringify(text)),
  );
  const header = fc.constantFrom(
    "[stores.s]",
    "[limiters.a]",
    "[[limiters.a]]",
    "[http]",
    "[limiters.a.rates]",
    "[[limiters.a.rates]]",
    "[x]",
  );
  const line = fc.oneof(header, fc.tuple(key, value).map(([left, right]) => `${left} = ${right}`));
  fc.assert(
    fc.property(fc.array(line, { maxLength: 10 }), (lines) => {
      try {
        load(lines.join("\n"), { X: "limit" });
      } catch (error) {
        assertInstanceOf(error, ConfigValidationError);
        assertInstanceOf(error, RateLimiterError);
      }
    }),
    { numRuns: 2_000 },
  );
});
