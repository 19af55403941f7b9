// The long form of the tests in which things go wrong: each of them again and again, under load. Prints what became of it,
// and ends with the number of scenarios in which a promise was broken.
import process from "node:process";
import { parseArgs } from "node:util";
import type { Verdict } from "../support/checker.ts";
import { chooseServer } from "../support/nats_server.ts";
import { type Fault, FAULTS } from "./faults.ts";
import { play } from "./play.ts";

const HELP = `Lets servers, networks and processes fail under load, again and again, and judges what became of it.

  --seconds N   for how long each fault (20)
  --only TEXT   only the faults whose name has this in it
  --server V    the version of nats-server (the newest that was found)

The faults:
${FAULTS.map(({ name }) => `  ${name}`).join("\n")}
`;

/** What was asked for; anything that is wrong ends the program. */
async function options(): Promise<{
  readonly seconds: number;
  readonly faults: readonly Fault[];
  readonly server: string;
}> {
  try {
    const { values: { seconds, only, server, help } } = parseArgs({
      options: {
        seconds: { type: "string", default: "20" },
        only: { type: "string", default: "" },
        server: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
    if (help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    if (!(Number(seconds) > 0)) throw new TypeError(`--seconds takes a number above 0, and was given '${seconds}'.`);
    const faults = FAULTS.filter(({ name }) => name.includes(only));
    if (faults.length === 0) throw new TypeError(`No fault has '${only}' in its name.`);
    return { seconds: Number(seconds), faults, server: (await chooseServer(server)).version };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error} See --help.\n`);
    process.exit(2);
  }
}

const asked = await options();

const HEADS = [
  "scenario",
  "times",
  "seconds",
  "acquires",
  "busiest / allowed",
  "longest gap",
  "other answers",
  "verdict",
];

function rowOf(name: string, times: number, seconds: number, verdict: Verdict): string[] {
  const { acquires, peaks, longestGapMs, otherAnswers, problems } = verdict;
  return [
    name,
    `${times}`,
    seconds.toFixed(1),
    `${acquires}`,
    peaks.map(({ what, most, allowed }) => `${what} ${most}/${allowed}`).join(", "),
    `${longestGapMs.toFixed(0)} ms`,
    Object.entries(otherAnswers).map(([kind, count]) => `${kind} ${count}`).join(", "),
    problems.length === 0 ? "held" : "BROKEN",
  ];
}

/** Plays one, and says whether every promise was kept. */
async function playOne(fault: Fault, rows: string[][]): Promise<boolean> {
  process.stderr.write(`${fault.name} …\n`);
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1_000;
  try {
    const options = { where: fault.where, version: asked.server };
    const { verdict, faults } = await play(options, [fault], () => seconds() >= asked.seconds);
    for (const problem of verdict.problems) process.stderr.write(`  ${problem}\n`);
    rows.push(rowOf(fault.name, faults, seconds(), verdict));
    return verdict.problems.length === 0;
  } catch (error) {
    process.stderr.write(`  ${error instanceof Error ? error.stack : error}\n`);
    rows.push([fault.name, "", seconds().toFixed(1), "", "", "", "", "FAILED"]);
    return false;
  }
}

const rows = [HEADS];
let broken = 0;
for (const fault of asked.faults) if (!await playOne(fault, rows)) broken++;
const widths = HEADS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
for (const row of rows) {
  process.stdout.write(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd() + "\n");
}
process.exit(broken);
