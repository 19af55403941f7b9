import { assertEquals, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import type { Outcome } from "../../../src/core/waiting/outcome.ts";
import { Waiter } from "../../../src/core/waiting/waiter.ts";
import { Waiting } from "../../../src/core/waiting/waiting.ts";

const NOW = Date.UTC(2030, 0, 1);
const demand = { cost: 1, owner: "me", permit: 0 };
const waiter = () => new Waiter<Outcome>(demand, NOW, Infinity, Infinity, () => {});

/** One of whom somebody was just served, who may come again. */
function served(): Waiting {
  const waiting = new Waiting({ isLost: () => false, drop: () => {} }, 10);
  const first = waiter();
  waiting.line.join(first);
  waiting.serve(first, { from: NOW, at: NOW, epoch: NOW, before: [0], after: [1], demand }, NOW);
  waiting.line.clear();
  return waiting;
}

/** Somebody comes in each of so many turns of the microtask queue. Returns how many had come when that was long. */
async function gatherOf(callers: number): Promise<{ readonly gathered: number; readonly longAfter: number[] }> {
  const waiting = served();
  const longAfter: number[] = [];
  const gathering = waiting.gather(() => longAfter.push(waiting.line.length));
  for (let i = 0; i < callers; i++) {
    waiting.line.join(waiter());
    await undefined;
  }
  await gathering;
  return { gathered: waiting.line.length, longAfter };
}

test("who was just served and comes again joins the same batch", async () => {
  assertEquals(await gatherOf(3), { gathered: 3, longAfter: [] });
});

test("a batch that is long in coming says so once, while callers still come", async () => {
  const { gathered, longAfter } = await gatherOf(200);
  assertEquals(gathered, 200);
  assertEquals(longAfter.length, 1);
  assertLessOrEqual(longAfter[0]!, 20);
});
