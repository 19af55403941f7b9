import { parseArgs } from "node:util";
import { GROUP_NAMES, type GroupName } from "./groups.ts";
import type { Runtime } from "./job.ts";

/** What the command line asks for. */
export interface BenchOptions {
  readonly only: readonly GroupName[];
  readonly runtimes: readonly Runtime[];
  readonly runs: number;
  readonly seconds: number;
  readonly warmUp: number;
  readonly processes: readonly number[];
  readonly callers: readonly number[];
  readonly keys: number;
  readonly report: string;
}

/** What `--help` prints. */
export const USAGE = `deno task bench:peers [options]

  --only hot,keys     of ${GROUP_NAMES.join(", ")}; the others stay in the report as they are
  --runtime deno      deno or bun alone
  --runs 5            of each, alternating
  --seconds 0.5       each run
  --warm-up 30        seconds before the first run, at the most: it begins when everybody is as fast as they become
  --processes 1,2,4,8 on the hot key
  --callers 25,100    of each process on the hot key
  --keys 100000       of the group keys
  --full              1,000,000 keys, and runs of 2 s
  --report FILE       where the report is written; bench/REPORT.md by default
`;

/** The command line makes no sense. */
export class WrongOption extends Error {}

/**
 * Reads the command line.
 *
 * @throws {WrongOption} if it makes no sense.
 */
export function parseOptions(args: string[]): BenchOptions | "help" {
  const { values } = parsed(args);
  if (values.help) return "help";
  return {
    only: namesOf("only", values.only, GROUP_NAMES),
    runtimes: namesOf("runtime", values.runtime, ["deno", "bun"]),
    runs: numberOf("runs", values.runs),
    seconds: numberOf("seconds", values.seconds ?? (values.full ? "2" : "0.5")),
    warmUp: numberOf("warm-up", values["warm-up"]),
    processes: values.processes.split(",").map((text) => numberOf("processes", text)),
    callers: values.callers.split(",").map((text) => numberOf("callers", text)),
    keys: numberOf("keys", values.keys ?? (values.full ? "1000000" : "100000")),
    report: values.report,
  };
}

function parsed(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        only: { type: "string" },
        runtime: { type: "string" },
        runs: { type: "string", default: "5" },
        seconds: { type: "string" },
        "warm-up": { type: "string", default: "30" },
        processes: { type: "string", default: "1,2,4,8" },
        callers: { type: "string", default: "25,100" },
        keys: { type: "string" },
        full: { type: "boolean", default: false },
        report: { type: "string", default: "bench/REPORT.md" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new WrongOption(error instanceof Error ? error.message : String(error));
  }
}

function namesOf<T extends string>(option: string, text: string | undefined, known: readonly T[]): readonly T[] {
  if (text === undefined) return known;
  return text.split(",").map((name) => {
    const found = known.find((other) => other === name);
    if (found === undefined) throw new WrongOption(`--${option} knows no '${name}', only ${known.join(", ")}.`);
    return found;
  });
}

function numberOf(option: string, text: string): number {
  const number = Number(text);
  if (!(number > 0)) throw new WrongOption(`--${option} takes a number above 0, and was given '${text}'.`);
  return number;
}
