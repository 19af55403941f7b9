import { assert, assertEquals, assertLess } from "@std/assert";
import { callTogether, leastStarts } from "../support/callers.ts";
import type { HostFault } from "../support/host_clock.ts";
import { forEachServer } from "../support/nats_server.ts";
import { rateExcess } from "../support/oracles.ts";

const RATE = 100;
const SECONDS = 3;
/** By how much starts and the clocks that they were taken with may be off on a busy machine. */
const LATE_MS = 25;
const HOUR = 3_600_000;

const FAULTS: readonly (HostFault | undefined)[] = [
  undefined,
  { drift: 5e-4, stepsMs: [HOUR, -HOUR], stepEveryMs: 300 },
  { drift: -5e-4, stepsMs: [-HOUR], stepEveryMs: 450 },
];

await forEachServer((server) => {
  server.test(
    "hosts whose clocks drift by 500 ppm and step by an hour admit nothing extra, and none of them is locked out [TB-12]",
    async () => {
      await using running = await server.start();
      const common = { url: running.url, ratePerSecond: RATE, burst: 1, callers: 10, timeoutMs: 2_500 };
      const orders = FAULTS.map((hostFault) => ({ ...common, ...hostFault ? { hostFault } : {} }));
      const reports = await callTogether(orders, SECONDS);
      assertEquals(reports.flatMap(({ errors }) => errors), []);
      const starts = reports.flatMap((report) => report.starts).sort((a, b) => a - b);
      const asStarts = starts.map((at) => ({ at: at - starts[0]!, cost: 1, until: Infinity }));
      assertEquals(rateExcess(asStarts, { ratePerSecond: RATE, burst: 1 }, LATE_MS), undefined);
      const enough = leastStarts(reports, RATE, SECONDS);
      assert(starts.length >= enough, `only ${starts.length} were used, and not ${enough}`);
      for (const { grants, clock } of reports) {
        assert(Math.min(...grants) > 0, "a caller was left with nothing");
        assertEquals(clock.source, "server");
        // The server is on this host, whose clock is right, whatever the process believed.
        assertLess(Math.abs(clock.now - performance.timeOrigin - performance.now()), 60_000);
      }
    },
  );
});
