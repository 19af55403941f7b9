import type { CallerOrder, CallerReport, CallerSpan } from "./caller_process.ts";
import { lineOf, outputOf, startChild } from "./child.ts";
import { machineNow } from "./machine_clock.ts";

/** How long it takes at most until all processes have heard when to start. */
const NOTICE_MS = 500;

/** Lets one process for each order call for `seconds`. They start together, when the last of them is ready. */
export async function callTogether(orders: readonly CallerOrder[], seconds: number): Promise<CallerReport[]> {
  const children = orders.map((order) => startChild("tests/support/caller_process.ts", JSON.stringify(order)));
  const outputs = Promise.all(children.map(outputOf));
  outputs.catch(() => {}); // it is awaited below, unless one of them ends first
  try {
    await Promise.race([Promise.all(children.map(lineOf)), outputs]);
    const from = machineNow() + NOTICE_MS;
    const span: CallerSpan = { from, until: from + seconds * 1_000 };
    for (const { stdin } of children) stdin?.end(JSON.stringify(span) + "\n");
    return (await outputs).map((output) => JSON.parse(output.slice(output.indexOf("\n"))));
  } finally {
    for (const child of children) child.kill("SIGKILL"); // one that has failed leaves the others waiting
  }
}

/**
 * How many starts a rate must have had at least: nine out of ten, in the time that the machine left to every process.
 */
export function leastStarts(reports: readonly CallerReport[], ratePerSecond: number, seconds: number): number {
  const stalled = Math.max(...reports.map(({ stalledMs }) => stalledMs)) / 1_000;
  return 0.9 * ratePerSecond * (seconds - stalled);
}
