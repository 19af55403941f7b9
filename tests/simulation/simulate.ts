// Runs as many simulated clusters as asked: `deno task simulate --help` says how.
import process from "node:process";
import { parseArgs } from "node:util";
import { type Profile, PROFILES } from "./profiles.ts";
import { reduced } from "./reduce.ts";
import { explain, traceOf } from "./report.ts";
import { run } from "./run.ts";
import { type Given, scenarioOf } from "./scenario.ts";

const HELP = `Simulates clusters of processes that share limits while everything goes wrong, and judges them.

  --seeds N      how many clusters, one for each seed (1000)
  --from S       the first seed (0)
  --profile P    only clusters of this kind: ${PROFILES.join(", ")}
  --unusual      only clusters with settings that hardly anybody chooses; otherwise one in three has them
  --seed X       only this one
  --trace        shows everything that happens in it
  --reduce       leaves out what does not matter, and prints what is left as JSON
`;

const MOST_FAILURES = 10;
const PROGRESS_MS = 500;

/** The options make no sense. */
class WrongOption extends Error {}

function parseOptions() {
  try {
    return parseArgs({
      options: {
        seeds: { type: "string", default: "1000" },
        from: { type: "string", default: "0" },
        seed: { type: "string" },
        profile: { type: "string" },
        unusual: { type: "boolean", default: false },
        trace: { type: "boolean", default: false },
        reduce: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new WrongOption(error instanceof Error ? error.message : String(error));
  }
}

async function main(): Promise<number> {
  const { values } = parseOptions();
  if (values.help) return say(HELP), 0;
  const profile = PROFILES.find((name) => name === values.profile);
  if (values.profile !== undefined && profile === undefined) {
    throw new WrongOption(`There is no profile '${values.profile}'. There are: ${PROFILES.join(", ")}.`);
  }
  const given: Given = values.unusual ? { isUnusual: true } : {};
  if (values.seed !== undefined) return await one(number("seed", values.seed), profile, given, values);
  return await many(number("seeds", values.seeds), number("from", values.from), profile, given);
}

async function one(
  seed: number,
  profile: Profile | undefined,
  given: Given,
  { trace, reduce }: { readonly trace: boolean; readonly reduce: boolean },
): Promise<number> {
  const whole = scenarioOf(seed, profile, given);
  const scenario = reduce ? await reduced(whole) : whole;
  const report = await run(scenario, { traced: trace });
  if (trace) say(`${traceOf(report)}\n`);
  if (reduce) say(`${JSON.stringify(scenario)}\n`);
  say(
    report.problems.length > 0
      ? `${explain(report)}\n`
      : `seed ${seed}, ${scenario.profile}: ${report.events} events, all is well (${report.digest})\n`,
  );
  return report.problems.length > 0 ? 1 : 0;
}

async function many(seeds: number, from: number, profile: Profile | undefined, given: Given): Promise<number> {
  const began = performance.now();
  let shownAt = began;
  let failures = 0;
  let events = 0;
  let done = 0;
  const progress = () => {
    const seconds = (performance.now() - began) / 1_000;
    return `${done} of ${seeds} clusters, ${failures} failed, ${events} events, ${
      (done / seconds).toFixed(0)
    } clusters/s`;
  };
  while (done < seeds && failures < MOST_FAILURES) {
    const report = await run(scenarioOf(from + done, profile, given));
    done++;
    events += report.events;
    if (report.problems.length > 0) {
      failures++;
      say(`\r${explain(report)}\n\n`);
    }
    if (performance.now() - shownAt < PROGRESS_MS) continue;
    shownAt = performance.now();
    if (process.stdout.isTTY) say(`\r${progress()}`);
  }
  say(`${process.stdout.isTTY ? "\r" : ""}${progress()}\n`);
  return failures > 0 ? 1 : 0;
}

function number(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new WrongOption(`--${name} takes a whole number, and was given '${text}'.`);
}

function say(text: string): void {
  process.stdout.write(text);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof WrongOption)) throw error;
  say(`${error.message} See --help.\n`);
  process.exitCode = 2;
}
