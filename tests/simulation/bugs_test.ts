import { assert } from "@std/assert";
import { test } from "node:test";
import { bugs } from "./bugs.ts";
import { run } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

/** Each bug has to be found among this many clusters, in which every process writes for itself. */
const SEEDS = 300;

for (const { name, sabotage, profile, found } of bugs) {
  test(`the judge of simulations finds a limiter that ${name}`, async () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const { problems } = await run(scenarioOf(seed, profile, { handsOver: false, prefetch: 0, isUnusual: false }), {
        sabotage,
      });
      if (problems.some((problem) => found.test(problem))) return;
    }
    assert(false, `nothing was found in ${SEEDS} clusters`);
  });
}
