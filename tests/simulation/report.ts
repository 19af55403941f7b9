import type { Report } from "./run.ts";
import type { Scenario } from "./scenario.ts";

/** The command that runs the scenario again. */
export function replayOf({ seed, profile, isUnusual }: Scenario): string {
  return `deno task simulate --seed ${seed} --profile ${profile}${isUnusual ? " --unusual" : ""} --trace`;
}

/** What was wrong, in which scenario, and how to see it again. */
export function explain({ scenario, problems }: Report): string {
  const { steps, ...rest } = scenario;
  return [
    `seed ${scenario.seed}, ${scenario.profile}: ${problems.length} problems`,
    ...problems.map((problem) => `  ${problem}`),
    `scenario: ${JSON.stringify(rest)}`,
    `with ${steps.length} steps. Again, with everything that happens: ${replayOf(scenario)}`,
  ].join("\n");
}

/** Everything that happened, one line each. */
export function traceOf({ trace }: Report): string {
  return trace.map(({ at, who, what }) => `${at.toFixed(3).padStart(12)}  ${who.padEnd(6)} ${what}`).join("\n");
}
