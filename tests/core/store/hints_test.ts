import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryKv } from "../../../src/adapters/memory.ts";
import { Hints } from "../../../src/core/store/hints.ts";
import type { Kv } from "../../../src/core/store/kv.ts";

test("hints are heard while somebody listens, once each, however often that begins anew", async () => {
  const kv = memoryKv();
  let heard = 0;
  const hints = new Hints(kv, "api", () => heard++);
  const announced = () => {
    heard = 0;
    kv.announce?.("api");
    return heard;
  };
  assertEquals(announced(), 0);
  hints.listen();
  hints.listen();
  assertEquals(announced(), 1);
  hints.unlisten();
  hints.listen(); // before the end of the first has arrived anywhere
  for (let turn = 0; turn < 10; turn++) await undefined;
  assertEquals(announced(), 1);
  hints.unlisten();
  hints.unlisten();
  for (let turn = 0; turn < 10; turn++) await undefined;
  assertEquals(announced(), 0);
});

test("a store that has no hints, or fails to give them, is listened to in vain, and tried again", async () => {
  const kv = memoryKv();
  new Hints({ ...kv, wake: undefined } as unknown as Kv, "api", () => {}).listen(); // as a Kv without it looks
  let tries = 0;
  const failing: Kv = { ...kv, wake: () => Promise.reject(new Error(`${++tries}`)) };
  const hints = new Hints(failing, "api", () => {});
  hints.listen();
  for (let turn = 0; turn < 10; turn++) await undefined;
  hints.listen();
  hints.unlisten();
  for (let turn = 0; turn < 10; turn++) await undefined;
  assertEquals(tries, 2);
});

test("that the store fails to give hints after all does not end what was begun meanwhile", async () => {
  const first = Promise.withResolvers<AsyncDisposable>();
  let begun = 0;
  let ended = 0;
  const listener = { [Symbol.asyncDispose]: () => Promise.resolve(void ended++) };
  const kv: Kv = { ...memoryKv(), wake: () => ++begun === 1 ? first.promise : Promise.resolve(listener) };
  const hints = new Hints(kv, "api", () => {});
  hints.listen();
  hints.unlisten();
  hints.listen();
  first.reject(new Error("too late"));
  for (let turn = 0; turn < 10; turn++) await undefined;
  hints.unlisten();
  for (let turn = 0; turn < 10; turn++) await undefined;
  assertEquals([begun, ended], [2, 1]);
});
