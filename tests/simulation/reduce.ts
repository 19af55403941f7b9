import type { RunOptions } from "./run.ts";
import { run } from "./run.ts";
import type { Scenario } from "./scenario.ts";

/**
 * A scenario with as few steps as can be found that still goes wrong in the same way: halves, quarters and so on of the
 * steps are left out for as long as that works.
 */
export async function reduced(scenario: Scenario, options: RunOptions = {}): Promise<Scenario> {
  const wrong = kindsOf((await run(scenario, options)).problems);
  let best = scenario;
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = size > 1 ? Math.ceil(size / 2) : 0) {
    for (let start = 0; start < best.steps.length;) {
      const steps = best.steps.filter((_, i) => i < start || i >= start + size);
      const smaller = { ...best, steps };
      const { problems } = await run(smaller, options);
      if (kindsOf(problems).some((kind) => wrong.includes(kind))) best = smaller;
      else start += size;
    }
  }
  return best;
}

/** What is wrong, without the numbers. */
function kindsOf(problems: readonly string[]): string[] {
  return problems.map((problem) => problem.replace(/[\d.]+/g, "").slice(0, 40));
}
