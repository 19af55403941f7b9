// The long form of the tests in which things go wrong: each of them again and again, under load. Prints what became of it,
// and ends with the number of scenarios in which a promise was broken.
import process from "node:process";
import { parseArgs } from "node:util";
import type { Verdict } from "../support/checker.ts";
import { type Fault, FAULTS } from "./faults.ts";
import { play } from "./play.ts";

const { values } = parseArgs({
  options: {
    /** For how long each of them. */
    seconds: { type: "string", default: "20" },
    /** Only those whose name has this in it. */
    only: { type: "string", default: "" },
    /** The version of nats-server; by default the newest that was found. */
    server: { type: "string" },
  },
});

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
    const options = { where: fault.where, version: values.server };
    const { verdict, faults } = await play(options, [fault], () => seconds() >= Number(values.seconds));
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
for (const fault of FAULTS) {
  if (fault.name.includes(values.only) && !await playOne(fault, rows)) broken++;
}
const widths = HEADS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
for (const row of rows) {
  process.stdout.write(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd() + "\n");
}
process.exit(broken);
