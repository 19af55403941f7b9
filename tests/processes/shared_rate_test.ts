import { assert, assertEquals } from "@std/assert";
import type { CallerReport } from "../support/caller_process.ts";
import { callTogether, leastStarts } from "../support/callers.ts";
import { forEachServer } from "../support/nats_server.ts";
import { rateExcess } from "../support/oracles.ts";

const RATE = 100;
const BURST = 1;
const SECONDS = 6;
/** By how much starts and the clocks that they were taken with may be off on a busy machine. */
const LATE_MS = 25;

async function callersOn(url: string, processes: number, callers: number): Promise<CallerReport[]> {
  const order = { url, ratePerSecond: RATE, burst: BURST, callers };
  return await callTogether(Array.from({ length: processes }, () => order), SECONDS);
}

await forEachServer((server) => {
  server.test(
    "4 processes with 50 callers each share one rate through NATS [TB-5, TB-9, TB-10, NATS-1]",
    async () => {
      await using running = await server.start();
      const reports = await callersOn(running.url, 4, 50);
      assertEquals(reports.flatMap(({ errors }) => errors), []);
      const starts = reports.flatMap((report) => report.starts).sort((a, b) => a - b);
      const first = starts[0]!;
      const asStarts = starts.map((at) => ({ at: at - first, cost: 1, until: Infinity }));
      assertEquals(rateExcess(asStarts, { ratePerSecond: RATE, burst: BURST }, LATE_MS), undefined);
      // The rate as it is promised is measured by `deno task demo`; a busy machine must not fail a test.
      const enough = leastStarts(reports, RATE, SECONDS);
      assert(starts.length >= enough, `only ${starts.length} were used, and not ${enough}`);
      const least = Math.min(...reports.flatMap(({ grants }) => grants));
      assert(least > 0, "a caller was left with nothing");
    },
  );

  server.test("one caller alone uses its rate through NATS [TB-5, TB-6, TB-7]", async () => {
    await using running = await server.start();
    const [report] = await callersOn(running.url, 1, 1);
    assert(report);
    assertEquals(report.errors, []);
    const enough = leastStarts([report], RATE, SECONDS);
    assert(report.starts.length >= enough, `only ${report.starts.length} were used, and not ${enough}`);
    assertEquals(report.casFailures, 0);
  });
});
