import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { createSchedule } from "../../../src/core/waiting/schedule.ts";

const slot = (from: number, cost = 1, permit = from) => ({ from, demand: { cost, owner: "me", permit } });
const waiter = (name: string, deadline = Infinity) => ({ name, deadline });

function setUp() {
  return createSchedule<ReturnType<typeof waiter>, ReturnType<typeof slot>>();
}

function drain(schedule: ReturnType<typeof setUp>): [string, number][] {
  const all: [string, number][] = [];
  while (schedule.size > 0) {
    const { waiter: { name }, grant: { from } } = schedule.take();
    all.push([name, from]);
  }
  return all;
}

test("createSchedule() gives everybody his moment, the next one first", () => {
  const schedule = setUp();
  assertEquals([schedule.next, schedule.size], [Infinity, 0]);
  for (const [name, from] of [["b", 20], ["a", 10], ["c", 30], ["b2", 20]] as const) {
    schedule.add(waiter(name), slot(from));
  }
  assertEquals([schedule.next, schedule.size], [10, 4]);
  assertEquals(drain(schedule), [["a", 10], ["b", 20], ["b2", 20], ["c", 30]]);
  assertEquals(schedule.next, Infinity);
});

test("leave() moves those behind up, and returns the slot that is left over [TMO-7]", () => {
  const schedule = setUp();
  const [a, b, c] = [waiter("a"), waiter("b"), waiter("c")];
  [a, b, c].forEach((who, i) => schedule.add(who, slot(10 * (i + 1))));
  assertEquals(schedule.leave(a)?.from, 30);
  assertEquals(schedule.leave(a), undefined);
  assertEquals(drain(schedule), [["b", 10], ["c", 20]]);
});

test("leave() hands no slot to somebody who asked for another cost", () => {
  const schedule = setUp();
  const [a, b, c] = [waiter("a"), waiter("b"), waiter("c")];
  schedule.add(a, slot(10));
  schedule.add(b, slot(20));
  schedule.add(c, slot(40, 2));
  assertEquals(schedule.leave(a)?.from, 20);
  assertEquals(drain(schedule), [["b", 10], ["c", 40]]);
});

test("miss() costs one slot, moves all on by one, and puts the last one out", () => {
  const schedule = setUp();
  for (const [i, name] of ["a", "b", "c"].entries()) schedule.add(waiter(name), slot(10 * (i + 1)));
  const { missed, left } = schedule.miss(() => false);
  assertEquals([missed.map(({ from }) => from), left.map(({ name }) => name)], [[10], ["c"]]);
  assertEquals(drain(schedule), [["a", 20], ["b", 30]]);
});

test("miss() moves nobody on to a slot after his deadline [TMO-6]", () => {
  const schedule = setUp();
  schedule.add(waiter("hurried", 15), slot(10));
  schedule.add(waiter("b"), slot(20));
  schedule.add(waiter("c"), slot(30));
  assertEquals(schedule.miss(() => false).left.map(({ name }) => name), ["hurried"]);
  assertEquals(drain(schedule), [["b", 20], ["c", 30]]);
});

test("miss() costs all slots at once that were missed, and no more of those who wait", () => {
  const schedule = setUp();
  const deadlines = [15, 35, 25, -Infinity, 60, 60];
  for (const [i, deadline] of deadlines.entries()) schedule.add(waiter(`${i}`, deadline), slot(10 * (i + 1)));
  schedule.add(waiter("large"), slot(70, 2));
  const { missed, left } = schedule.miss(({ from }) => from <= 20 || from === 70);
  assertEquals(missed.map(({ from }) => from), [10, 20]);
  // Who does not want to wait keeps a slot of its own only, and nobody is moved on beyond what it can wait for.
  assertEquals(left.map(({ name }) => name), ["0", "2"]);
  assertEquals(drain(schedule), [["1", 30], ["3", 40], ["4", 50], ["5", 60], ["large", 70]]);
});

test("miss() copes with as many as there may be callers", () => {
  const schedule = setUp();
  for (let i = 0; i < 300_000; i++) schedule.add(waiter("one of many"), slot(i));
  const { missed, left } = schedule.miss(({ from }) => from < 100_000);
  assertEquals([missed.length, left.length, schedule.size, schedule.next], [100_000, 100_000, 200_000, 100_000]);
});

test("createSchedule() never loses or doubles a waiter or a slot, and keeps equal costs in order of arrival", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant("add"), after: fc.nat({ max: 3 }) }),
      fc.record({ kind: fc.constant("leave"), which: fc.nat() }),
      fc.record({ kind: fc.constant("take") }),
      fc.record({ kind: fc.constant("miss"), for: fc.nat({ max: 6 }) }),
    ),
    { maxLength: 60, size: "max" },
  );
  fc.assert(
    fc.property(steps, (steps) => {
      const schedule = setUp();
      const waiting: ReturnType<typeof waiter>[] = [];
      const slots = new Set<number>();
      let from = 0;
      let next = 0;
      for (const step of steps) {
        if (step.kind === "add") {
          from += step.after + 1;
          const who = waiter(`${next++}`);
          waiting.push(who);
          slots.add(from);
          schedule.add(who, slot(from));
        } else if (waiting.length === 0) continue;
        else if (step.kind === "leave") {
          const [gone] = waiting.splice(step.which % waiting.length, 1);
          if (gone) assertEquals(slots.delete(schedule.leave(gone)?.from ?? -1), true);
        } else if (step.kind === "take") {
          const { waiter: who, grant } = schedule.take();
          assertEquals(who, waiting.shift());
          assertEquals([slots.delete(grant.from), Math.min(grant.from, ...slots)], [true, grant.from]);
        } else {
          const until = schedule.next + step.for;
          const { missed, left } = schedule.miss(({ from }) => from <= until);
          assertEquals(left, waiting.splice(-missed.length));
          for (const { from } of missed) assertEquals([from <= until, slots.delete(from)], [true, true]);
        }
        assertEquals([schedule.size, schedule.next], [waiting.length, Math.min(Infinity, ...slots)]);
      }
      assertEquals(drain(schedule).map(([name]) => name), waiting.map(({ name }) => name));
    }),
  );
});
