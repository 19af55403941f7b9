import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryKv, memoryStore } from "../../src/adapters/memory.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { kvSuite } from "../support/kv_suite.ts";

kvSuite("memoryKv()", () =>
  Promise.resolve({
    kv: memoryKv(createVirtualClock()),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }));

const bytes = (text: string) => new TextEncoder().encode(text);

async function collect(keys: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const key of keys) all.push(key);
  return all;
}

test("memoryKv() forgets a value when its time is over, and not before", async () => {
  const clock = createVirtualClock();
  const kv = memoryKv(clock);
  assertEquals(await kv.compareAndSet("a", bytes("one"), 0, 1_000), { ok: true, revision: 1 });
  await clock.advance(999);
  assertEquals((await kv.get("a"))?.revision, 1);
  assertEquals(await collect(kv.keys()), ["a"]);
  await clock.advance(1);
  assertEquals(await kv.get("a"), null);
  assertEquals(await collect(kv.keys()), []);
  assertEquals(await kv.compareAndSet("a", bytes("two"), 1), { ok: false });
  assertEquals(await kv.compareAndSet("a", bytes("two"), 0), { ok: true, revision: 2 });
});

test("memoryKv() takes the time of the last write", async () => {
  const clock = createVirtualClock();
  const kv = memoryKv(clock);
  await kv.compareAndSet("a", bytes("one"), 0, 1_000);
  await clock.advance(900);
  await kv.compareAndSet("a", bytes("two"), 1, 1_000);
  await clock.advance(900);
  assertEquals((await kv.get("a"))?.revision, 2);
  await kv.compareAndSet("a", bytes("three"), 2);
  await clock.advance(1e9);
  assertEquals((await kv.get("a"))?.revision, 3);
});

test("memoryKv() drops what has expired while other keys are written [LIM-17]", async () => {
  let asked = 0;
  const time = createVirtualClock();
  // Listing the keys asks for the time once for every entry that is still held.
  const clock = { now: () => (asked++, time.now()), sleep: time.sleep };
  const kv = memoryKv(clock);
  for (let i = 0; i < 5_000; i++) await kv.compareAndSet(`key${i}`, bytes("x"), 0, 100);
  await time.advance(100);
  for (let i = 0; i < 5_000; i++) await kv.compareAndSet("busy", bytes("x"), i === 0 ? 0 : 5_000 + i, 100);
  asked = 0;
  assertEquals(await collect(kv.keys()), ["busy"]);
  assertEquals(asked, 1);
});

test("memoryStore() needs no opening and can be closed any number of times", async () => {
  const clock = createVirtualClock();
  const store = memoryStore(clock);
  await store.open();
  await store.open();
  assertEquals(store.clock, clock);
  assertEquals((await store.kv.compareAndSet("a", bytes("one"), 0)).ok, true);
  await store.close();
  await store.close();
});
