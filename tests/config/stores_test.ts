import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { test } from "node:test";
import { checkStoreOptions } from "../../src/config/stores.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { clockStub, connectionStub, kvStub } from "./stubs.ts";

function refusal(options: unknown, id = "s"): ConfigValidationError {
  return assertThrows(() => checkStoreOptions(id, options), ConfigValidationError);
}

test("checkStoreOptions() returns every option of a nats store as it was given [STO-1]", () => {
  const options = {
    engine: "nats",
    url: "nats://h:4222",
    token: "t",
    tlsCaFile: "ca.pem",
    tlsCertFile: "cert.pem",
    tlsKeyFile: "key.pem",
    bucketName: "b",
    domain: "hub",
    partitions: 64,
    autoCreate: false,
    replicas: 5,
    storage: "memory",
    bucketTtlMs: 0,
    retryIntervalMs: 0.5,
    maxRetries: 1,
    timingMarginMs: 0,
    backendTimeoutMs: 1,
    breakerFailures: 0,
    breakerCoolDownMs: 0.5,
    breakerMaxCoolDownMs: 0.5,
    clock: "server",
    replace: true,
  };
  assertEquals(checkStoreOptions("s", options) as unknown, options);
});

test("checkStoreOptions() leaves out what is undefined, and needs no prototype", () => {
  const options = Object.assign(Object.create(null), { engine: "memory", replace: undefined });
  assertEquals(checkStoreOptions("s", options), { engine: "memory" });
});

test("checkStoreOptions() accepts a connection that is open, with bucket options [STO-6]", () => {
  const options = { engine: "nats", connection: connectionStub, autoCreate: true };
  assertEquals(checkStoreOptions("s", options) as unknown, options);
});

test("checkStoreOptions() refuses a connection together with how to connect [STO-6]", () => {
  const keys = [
    "url",
    "token",
    "user",
    "password",
    "credentialsFile",
    "nkeySeedFile",
    "tlsCaFile",
    "tlsCertFile",
    "tlsKeyFile",
  ];
  for (const key of keys) {
    const error = refusal({ engine: "nats", connection: connectionStub, [key]: "s3cr3t" });
    assertEquals(error.field, `stores.s.${key}`);
    assertEquals(error.message.includes("s3cr3t"), false);
  }
  for (const connection of [null, 5, "nats://h", {}, { request: 1, subscribe: 2 }]) {
    assertEquals(refusal({ engine: "nats", connection }).field, "stores.s.connection");
  }
});

test("checkStoreOptions() accepts a Kv of the caller's own, with or without a clock", () => {
  assertEquals(checkStoreOptions("s", { kv: kvStub }), { kv: kvStub });
  assertEquals(checkStoreOptions("s", { engine: undefined, kv: kvStub, clock: clockStub }), {
    kv: kvStub,
    clock: clockStub,
  });
});

test("checkStoreOptions() refuses what no circuit breaker can be, for every store that can fail [FAIL-2]", () => {
  for (const store of [{ engine: "nats", url: "nats://h:4222" }, { kv: kvStub }]) {
    for (
      const [field, wrong] of [
        ["breakerFailures", -1],
        ["breakerFailures", 1.5],
        ["breakerFailures", "5"],
        ["breakerCoolDownMs", 0],
        ["breakerCoolDownMs", Infinity],
        ["breakerMaxCoolDownMs", -1],
      ] as const
    ) {
      assertEquals(refusal({ ...store, [field]: wrong }).field, `stores.s.${field}`);
    }
    const error = refusal({ ...store, breakerCoolDownMs: 200, breakerMaxCoolDownMs: 100 });
    assertEquals(error.field, "stores.s.breakerMaxCoolDownMs");
    assertStringIncludes(error.message, "breakerMaxCoolDownMs must be not less than 'breakerCoolDownMs', got 100.");
  }
  assertStringIncludes(refusal({ engine: "memory", breakerFailures: 3 }).message, "belongs to the engine 'nats'");
});

test("checkStoreOptions() refuses the name and the time to live of a bucket that no server could create [STO-6]", () => {
  const nats = { engine: "nats", url: "nats://h:4222" };
  for (const bucketTtlMs of [-1, 50, 99.9, 1e13, Number.MAX_SAFE_INTEGER, Infinity]) {
    assertEquals(refusal({ ...nats, bucketTtlMs }).field, "stores.s.bucketTtlMs");
  }
  assertStringIncludes(refusal({ ...nats, bucketTtlMs: 50 }).message, "0 for no end, or at least a tenth of a second");
  for (const bucketTtlMs of [0, 100, 12_342.857142857143, 3_153_600_000_000]) {
    assertEquals(checkStoreOptions("s", { ...nats, bucketTtlMs }) as unknown, { ...nats, bucketTtlMs });
  }
  assertStringIncludes(refusal({ ...nats, bucketName: "b".repeat(241) }).message, "at most 240 letters");
  assertEquals(checkStoreOptions("s", { ...nats, bucketName: "b".repeat(240) }).engine, "nats");
});

test("checkStoreOptions() refuses what is no Kv or no Clock", () => {
  for (const kv of [5, "kv", {}, new Map()]) assertEquals(refusal({ kv }).field, "stores.s.kv");
  for (const clock of [5, Date, "server", {}]) assertEquals(refusal({ kv: kvStub, clock }).field, "stores.s.clock");
  assertStringIncludes(refusal({ kv: kvStub, clock: Date }).message, "got a function. It has no sleep().");
  assertStringIncludes(refusal({ kv: 5 }).message, "got 5. (");
  assertEquals(refusal({ engine: "memory", kv: kvStub }).field, "stores.s.kv");
  assertEquals(refusal({ kv: kvStub, url: "nats://h" }).field, "stores.s.url");
});

test("checkStoreOptions() refuses options that are no object, and a missing or unknown engine [STO-1]", () => {
  for (const options of [undefined, null, 5, "memory", [], new Map(), () => {}]) {
    assertEquals(refusal(options).field, "stores.s");
  }
  assertEquals(refusal({}).field, "stores.s.engine");
  assertStringIncludes(refusal({ url: "nats://h" }).message, "Missing required field 'engine'");
  assertStringIncludes(
    refusal({ engine: "redis" }).message,
    "Unknown engine 'redis'. Available engines: memory, nats.",
  );
  assertStringIncludes(refusal({ engine: "nats" }).message, "Missing required field 'url' for engine 'nats'");
});

test("checkStoreOptions() takes types exactly: text is no number, and empty is not absent", () => {
  assertEquals(refusal({ engine: "nats", url: "nats://h", replicas: "3" }).field, "stores.s.replicas");
  for (const partitions of [0, 65, 1.5, -1, NaN, Infinity, "6", null]) {
    assertEquals(refusal({ engine: "nats", url: "nats://h", partitions }).field, "stores.s.partitions");
  }
  assertEquals(refusal({ engine: "nats", url: "nats://h", autoCreate: "true" }).field, "stores.s.autoCreate");
  assertEquals(refusal({ engine: "nats", url: "nats://h", token: "" }).field, "stores.s.token");
  assertEquals(refusal({ engine: "nats", url: "" }).field, "stores.s.url");
  assertEquals(refusal({ engine: "nats", url: null }).field, "stores.s.url");
  assertEquals(refusal({ engine: "memory", url: "" }).field, "stores.s.url");
});

test("checkStoreOptions() suggests the name in camelCase", () => {
  assertStringIncludes(refusal({ engine: "nats", url: "x", bucket_name: "b" }).message, "Did you mean 'bucketName'?");
  assertStringIncludes(
    refusal({ engine: "nats", url: "x", retry_interval: 1 }).message,
    "Did you mean 'retryIntervalMs'?",
  );
});

test("checkStoreOptions() never shows a secret [STO-5]", () => {
  const cases = [
    { token: 123456 },
    { password: 123456, user: "u" },
    { password: 123456n, user: "u" },
    { token: ["123456"] },
    { token: "123456", user: "u", password: "123456" },
    { url: ["nats://u:123456@h"] },
    { bucketName: "nats://u:123456@h" },
    { token: "123456", unknown: "123456" },
  ];
  for (const options of cases) {
    const error = refusal({ engine: "nats", url: "nats://h", ...options });
    assertEquals(error.message.includes("123456"), false, error.message);
  }
});
