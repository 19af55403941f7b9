import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { test } from "node:test";
import { createRandom } from "../support/random.ts";
import { createCluster } from "./cluster.ts";
import { createHost, START } from "./host.ts";
import { type Conditions, createNetwork } from "./network.ts";
import { QUICK } from "./profiles.ts";
import { reduced } from "./reduce.ts";
import { traceOf } from "./report.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
import { createClusterStore } from "./store.ts";
import { createWorld } from "./world.ts";
import { bugs } from "./bugs.ts";

function networkOf(conditions: Partial<Conditions> = {}) {
  const world = createWorld();
  return { world, network: createNetwork(world, createRandom(1), { ...QUICK, ...conditions }) };
}

test("a simulated world lets things happen in order, and those of one moment as they were planned", async () => {
  const world = createWorld();
  const seen: string[] = [];
  for (const [time, name] of [[5, "d"], [1, "a"], [3, "b"], [3, "c"]] as const) {
    world.at(time, () => seen.push(`${name}${world.now}`));
  }
  world.at(2, () => seen.push("never")).cancel();
  await world.run(4);
  assertEquals([seen.join(), world.now], ["a1,b3,c3", 4]);
  await world.run(10);
  assertEquals([seen.join(), world.now], ["a1,b3,c3,d5", 10]);
});

test("a simulated host that is stopped runs nothing, and all of it late", async () => {
  const world = createWorld();
  const host = createHost(world, createRandom(1), "p", { skewMs: 0, driftPpm: 0, timerLateMs: 0 });
  const seen: number[] = [];
  for (const ms of [10, 20, 30, 200]) void host.clock.sleep(ms).then(() => seen.push(Math.round(world.now)));
  world.at(15, () => host.pause(50));
  world.at(40, () => host.pause(100));
  await world.run(1_000);
  assertEquals(seen, [10, 140, 140, 200]);
  assertEquals(host.pauses, [{ from: 15, to: 140 }]);
  assertEquals(host.timers, 0);
  void host.clock.sleep(1).then(() => seen.push(-1));
  host.crash();
  await world.run(2_000);
  assertEquals(seen.length, 4);
});

test("the clock of a simulated host is skewed and drifts, and only its wall clock can be set", async () => {
  const world = createWorld();
  const host = createHost(world, createRandom(1), "p", { skewMs: 250, driftPpm: 100, timerLateMs: 0 });
  host.step(3_600_000);
  await world.run(1_000_000);
  assertEquals(Math.round(host.clock.now() - START), 1_000_000 + 250 + 100);
  assertEquals(Math.round(host.wall() - START), 1_000_000 + 250 + 100 + 3_600_000);
});

test("a simulated network delays, loses, doubles and reorders what is sent, and keeps endpoints apart", async () => {
  const { world, network } = networkOf({ leastMs: 1, mostMs: 50, loss: 0.2, duplicates: 0.2 });
  const got: number[] = [];
  network.serve("a", (message) => got.push(Number(message)));
  network.serve("b", () => got.push(-1));
  for (let i = 0; i < 1_000; i++) network.send("c", "a", i);
  network.send("c", "nobody", 0);
  await world.run(100);
  const distinct = new Set(got);
  assertGreater(distinct.size, 750);
  assertLess(distinct.size, 950);
  assertGreater(got.length, distinct.size + 100);
  assert(got.some((value, i) => value < (got[i - 1] ?? 0)));
  assert(!distinct.has(-1));
  network.cut("a", 1_000);
  got.length = 0;
  for (let i = 0; i < 100; i++) network.send("c", "a", i);
  await world.run(1_000);
  assertEquals(got, []);
});

test("a simulated cluster accepts the write of a revision once, and its revisions go back with what it loses", async () => {
  const { world, network } = networkOf();
  const nothing = { refuses: 0, unavailable: 0, silent: 0, deaf: 0, expires: true };
  const cluster = createCluster(world, network, createRandom(2), nothing);
  const host = createHost(world, createRandom(3), "p", { skewMs: 1e6, driftPpm: 0, timerLateMs: 0 });
  const { kv, clock, open } = createClusterStore(host, network, cluster, {
    clock: "server",
    timeoutMs: 100,
    localErrorMs: 0,
  });
  const bytes = (text: string) => new TextEncoder().encode(text);
  const seen: unknown[] = [];
  await Promise.all([
    world.run(5_000),
    (async () => {
      await open();
      assertLess(Math.abs(clock.now() - START - world.now), 1);
      seen.push(await kv.compareAndSet("a", bytes("1"), 0, 1_000), await kv.compareAndSet("a", bytes("x"), 0));
      await host.clock.sleep(100);
      seen.push(await kv.compareAndSet("a", bytes("2"), 1, 1_000));
      cluster.lose(50);
      seen.push((await kv.get("a"))?.revision, await kv.compareAndSet("a", bytes("3"), 1, 1_000));
      await host.clock.sleep(1_001);
      seen.push(await kv.get("a"));
    })(),
  ]);
  const written = (revision: number) => ({ ok: true, revision });
  assertEquals(seen, [written(1), { ok: false }, written(2), 1, written(2), null]);
});

test("a scenario that fails is reduced to the steps that matter, and fails in the same way", async () => {
  const bug = bugs.find(({ name }) => name === "ignores a conflict");
  assert(bug);
  const scenario = scenarioOf(0, bug.profile, { isUnusual: false });
  const fewer = await reduced(scenario, { sabotage: bug.sabotage });
  assertLess(fewer.steps.length, scenario.steps.length);
  const report = await run(fewer, { sabotage: bug.sabotage, traced: true });
  assert(report.problems.some((problem) => bug.found.test(problem)));
  assert(traceOf(report).includes("asks"));
});
