import { assert, assertEquals, assertRejects } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import { join } from "node:path";
import * as front from "../../mod.ts";
import { parseConfiguration } from "../../src/config/load.ts";
import { parseToml } from "../../src/config/toml.ts";
import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import * as testing from "../../src/testing/mod.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { readText, ROOT } from "../support/project.ts";

const FILE = "examples/migration/rate-sync.toml";
const GUIDE = "examples/migration/README.md";

/** What rate-sync 0.4.2 knows in a file; anything else makes it refuse the file. */
const PYTHON_KEYS: Readonly<Record<string, ReadonlySet<string>>> = {
  stores: new Set(["engine"]), // of the engine memory, the only one that both have
  limiters: new Set([
    "store",
    "algorithm",
    "rate_per_second",
    "max_concurrent",
    "limit",
    "window_seconds",
    "timeout",
    "fail_closed",
  ]),
};

async function loaded(environment: Record<string, string> = {}): Promise<{ clock: VirtualClock; rateSync: RateSync }> {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  const before = process.env["API_RATE"];
  delete process.env["API_RATE"];
  Object.assign(process.env, environment);
  try {
    await rateSync.loadConfig(join(ROOT, FILE));
  } finally {
    if (before === undefined) delete process.env["API_RATE"];
    else process.env["API_RATE"] = before;
  }
  return { clock, rateSync };
}

test("the file for both libraries has no key that Python does not know [CFG-10]", () => {
  const document = parseToml(readText(FILE), FILE);
  assertEquals(Object.keys(document).sort(), ["fastapi", "limiters", "stores"]);
  for (const [section, known] of Object.entries(PYTHON_KEYS)) {
    const tables = document[section];
    assert(typeof tables === "object" && tables !== null, section);
    for (const [id, table] of Object.entries(tables)) {
      assert(typeof table === "object" && table !== null, id);
      assertEquals(Object.keys(table).filter((key) => !known.has(key)), [], `${section}.${id}`);
    }
  }
});

test("the file for both libraries uses every key that Python has for limiters [CFG-18]", () => {
  for (const key of PYTHON_KEYS["limiters"] ?? []) assert(readText(FILE).includes(`\n${key} = `), key);
});

test("the file for both libraries means here what it means in Python, and fail_closed counts [CFG-16, CFG-18, CFG-27]", async () => {
  const { rateSync } = await loaded();
  const said = Object.entries(rateSync.listLimiters()).map(([id, config]) => {
    const { storeId, algorithm, ratePerSecond, burst, maxConcurrent, limit, windowMs, timeoutMs, failClosed } = config;
    assertEquals([storeId, burst], ["limits", 1]);
    return [id, algorithm, ratePerSecond, maxConcurrent, limit, windowMs, timeoutMs, failClosed];
  });
  assertEquals(said, [
    ["api", "token_bucket", 10, null, null, null, 30_000, false],
    ["login", "sliding_window", null, null, 5, 300_000, null, true],
    ["upload", "token_bucket", null, 10, null, null, 5_000, false],
    ["partner", "token_bucket", 5, 2, null, null, null, false],
    ["nightly", "token_bucket", null, 1, null, null, 0, false],
  ]);
  const other = await loaded({ API_RATE: "25" });
  assertEquals(other.rateSync.getLimiter("api").getConfig().ratePerSecond, 25);
});

test("the limiters of the file for both libraries limit [TB-1, SW-1, CON-1, CON-10]", async () => {
  const { clock, rateSync } = await loaded();
  const allowed = async (id: string) => (await rateSync.tryAcquire(id)).allowed;

  assertEquals((await rateSync.acquire("api")).waitedMs, 0);
  const permits = await clock.runUntil(Promise.all([rateSync.acquire("api"), rateSync.acquire("api")]));
  assertEquals(permits.map(({ waitedMs }) => Math.round(waitedMs)), [100, 200]);

  const logins = [];
  for (let i = 0; i < 6; i++) logins.push(await allowed("login"));
  assertEquals(logins, [true, true, true, true, true, false]);

  const uploads = [];
  for (let i = 0; i < 11; i++) uploads.push(await allowed("upload"));
  assertEquals(uploads.filter(Boolean).length, 10);

  await using _first = await rateSync.acquire("partner");
  assertEquals(await allowed("partner"), false);

  await using _night = await rateSync.acquire("nightly");
  await assertRejects(() => rateSync.acquire("nightly"), RateLimiterAcquisitionError, "at once");
});

test("every TOML block of the guide loads [CFG-5]", () => {
  const blocks = [...readText(GUIDE).matchAll(/```toml\n(.*?)```/gs)].map(([, block]) => block!);
  assert(blocks.length > 0);
  for (const block of blocks) parseConfiguration(block, { environment: () => undefined });
});

test("the NATS store of Python's first release loads unchanged, with the same defaults [STO-3]", () => {
  const toml = `[stores.n]\nengine = "nats"\nurl = "nats://h"\ntoken = "t"\nbucket_name = "b"\nauto_create = true\n` +
    `retry_interval = 0.05\nmax_retries = 100\ntiming_margin_ms = 10.0\n`;
  assertEquals(parseConfiguration(toml, { environment: () => undefined }).stores.get("n"), {
    engine: "nats",
    url: "nats://h",
    token: "t",
    bucketName: "b",
    autoCreate: true,
    retryIntervalMs: 50,
    maxRetries: 100,
    timingMarginMs: 10,
  });
});

test("every function and error that the guide names for TypeScript is there", async () => {
  const rateSync = createRateSync({ limiters: { any: { ratePerSecond: 1 } } });
  await using permit = await rateSync.acquire("any");
  const objects: Readonly<Record<string, object>> = {
    limiter: rateSync.getLimiter("any"),
    permit,
    composite: new front.CompositeRateLimiter({ limiters: { ip: "any" }, rateSync }),
    Math,
    Date,
  };
  const names = new Map<string, object>(Object.entries({ ...front, ...testing }).map(([name, value]) => [name, value]));
  const section = readText(GUIDE).split("## Names")[1]?.split("## What is different")[0] ?? "";
  const cells = section.split("\n").filter((line) => line.startsWith("| ")).map((line) => line.split(" | ")[1] ?? "");
  const calls = cells.flatMap((cell) => [...cell.matchAll(/(?:(\w+)\.)?(\w+)\(/g)]);
  assert(calls.length > 25, `${calls.length} calls`);
  for (const [call, object, name = ""] of calls) {
    const found = object === undefined ? names.get(name) : Reflect.get(objects[object] ?? {}, name);
    assertEquals(typeof found, "function", call);
  }
  const errors = cells.flatMap((cell) => cell.match(/\b\w+Error\b/g) ?? []);
  assert(errors.length > 3);
  for (const error of errors) assert(names.has(error), error);
});

/** Where @ratesync/core decides otherwise than Python, by group. */
const DIFFERENT: Readonly<Record<string, readonly number[]>> = {
  CFG: [3, 6, 11, 14, 16, 17, 19, 23, 24, 25, 26, 28, 29, 31],
  STO: [5, 6, 7, 8],
  LIM: [4, 5, 6, 7, 10, 11, 14, 17, 18],
  TB: [5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
  CON: [2, 5, 6, 7, 8, 9],
  SW: [5],
  CMB: [2, 3],
  TMO: [2, 3, 4, 6, 7],
  MET: [4, 6, 7],
  STA: [2, 3, 7, 8, 9, 10],
  CLN: [3, 5, 6, 7],
  CHK: [1, 3, 4, 6, 7],
  CMP: [1, 5, 6, 7],
  DEC: [4, 6, 8, 9, 10, 11],
  IDN: [3, 4],
  TST: [1, 3, 4, 5],
  ERR: [1, 2, 3, 5],
  FAIL: [2, 3, 4, 5],
  NATS: [2, 3, 5, 6, 7, 8, 9],
  LOG: [1, 2],
};

test("the guide has every criterion in which the two libraries differ, and no other", () => {
  const different = Object.entries(DIFFERENT).flatMap(([group, numbers]) => numbers.map((n) => `${group}-${n}`));
  const rows = readText(GUIDE).split("\n").filter((line) => line.startsWith("| "));
  const named = rows.flatMap((row) => row.split("|").at(-2)?.match(/\b[A-Z]{2,4}-\d+\b/g) ?? []);
  assertEquals(different.filter((criterion) => !named.includes(criterion)), [], "not in the guide");
  assertEquals(named.filter((criterion) => !different.includes(criterion)), [], "not a difference");
});
