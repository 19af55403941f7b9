import { assertAlmostEquals, assertEquals } from "@std/assert";
import { test } from "node:test";
import { Line } from "../../../src/core/waiting/line.ts";
import type { Caller, Outcome } from "../../../src/core/waiting/outcome.ts";
import { Waiter } from "../../../src/core/waiting/waiter.ts";

const heard: Outcome[] = [];
const caller = (cost: number, deadline = Infinity): Caller =>
  new Waiter({ cost, owner: "me", permit: 0 }, 0, deadline, Infinity, (outcome: Outcome) => heard.push(outcome));
const CLOSED: Outcome = { kind: "closed", attempts: 0 };

test("a line counts those who are not decided yet, and what they cost", () => {
  const line = new Line();
  const [a, b, c] = [caller(0.1), caller(0.2), caller(3)];
  for (const one of [a, b, c]) line.join(one);
  assertEquals([line.length, line.waiting, line.head === a], [3, 3, true]);
  line.settle(a, CLOSED);
  line.exit(c);
  line.exit(c);
  assertEquals([line.length, line.waiting], [3, 1]);
  assertAlmostEquals(line.cost, 0.2, 1e-9);
  assertEquals(line.unanswered(Infinity), [b, c]);
  assertEquals(line.length, 2);
  line.exit(b);
  assertEquals([line.waiting, line.cost], [0, 0]); // and not what adding 0.1 and 0.2 has left over
});

test("a line knows when somebody has to hear something", () => {
  const line = new Line();
  assertEquals(line.soonestDeadline, Infinity);
  line.join(caller(1, 500));
  line.join(caller(1, 300));
  line.join(caller(1, -1)); // does not want to wait
  assertEquals(line.soonestDeadline, 300);
});

test("those who are dealt with leave a line, whoever has gone or come meanwhile", () => {
  const line = new Line();
  const [a, b, c, d] = [caller(1), caller(1), caller(1), caller(1)];
  for (const one of [a, b, c]) line.join(one);
  const requests = line.unanswered(Infinity);
  line.remove(b);
  line.join(d);
  line.advance(requests, 2);
  assertEquals([...line], [c, d]);
  line.prepend([a]);
  line.append([b]);
  assertEquals([...line], [a, c, d, b]);
  assertEquals(line.unanswered(2), [a, c]);
  line.shift();
  assertEquals(line.head, c);
  line.clear();
  assertEquals([line.length, line.head], [0, undefined]);
});
