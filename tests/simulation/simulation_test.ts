import { assertEquals, assertNotEquals } from "@std/assert";
import { test } from "node:test";
import { PROFILES, profiles } from "./profiles.ts";
import { regressions } from "./regressions.ts";
import { explain, traceOf } from "./report.ts";
import { run } from "./run.ts";
import { scenarioOf, USUAL } from "./scenario.ts";

/** How many clusters of each kind to run. `deno task simulate` runs as many as asked. */
const SEEDS = 200;
/** A crowd is a cluster with hundreds of callers. */
const CROWDS = 20;

async function allIsWell(...scenario: Parameters<typeof scenarioOf>): Promise<void> {
  const report = await run(scenarioOf(...scenario));
  if (report.problems.length > 0) throw new Error(explain(report));
}

for (const profile of PROFILES) {
  test(`limits, leases and waiting callers are right in simulated clusters: ${profile} [TB-12, FAIL-2, CON-6, CON-8]`, async () => {
    const seeds = profiles[profile].callers === "crowd" ? CROWDS : SEEDS;
    for (let seed = 0; seed < seeds; seed++) await allIsWell(seed, profile);
  });
}

for (const { was, profile, seeds, isUnusual = false } of regressions) {
  test(`once found by a simulation: ${was}`, async () => {
    for (const seed of seeds) {
      for (const handsOver of [false, true]) {
        await allIsWell(seed, profile, { ...USUAL, handsOver, isUnusual });
      }
    }
  });
}

test("a seed decides everything in a simulation", async () => {
  for (let seed = 0; seed < 60; seed++) {
    const once = await run(scenarioOf(seed), { traced: true });
    const again = await run(scenarioOf(seed), { traced: true });
    assertEquals(traceOf(again), traceOf(once));
    assertEquals(again.digest, once.digest);
    assertEquals((await run(scenarioOf(seed))).digest, once.digest);
    assertNotEquals((await run(scenarioOf(seed + 1_000))).digest, once.digest);
  }
});
