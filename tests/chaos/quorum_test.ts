import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { test } from "node:test";
import { createRateSync, RateLimiterAcquisitionError } from "../../mod.ts";
import { isAtLeast } from "../../src/adapters/nats/bucket.ts";
import { LIMIT, natsServers, startCluster } from "../support/nats_server.ts";
import { logBook } from "../support/log_book.ts";

const MODES = ["open", "closed", "local"] as const;
const BURST = 3;

test(
  "without most of its servers a cluster is down, and what was counted is there when they are back [FAIL-1, FAIL-3]",
  LIMIT,
  async () => {
    // Earlier ones break compare-and-set on replicated buckets.
    const server = (await natsServers()).find(({ version }) => isAtLeast(version, [2, 9, 21]));
    assert(server, "a nats-server from 2.9.21 on is needed");
    await using cluster = await startCluster(3, { server });
    await using rateSync = createRateSync({ logger: logBook() });
    rateSync.configureStore("nats", {
      engine: "nats",
      url: cluster.url,
      autoCreate: true,
      replicas: 3,
      backendTimeoutMs: 500,
      breakerFailures: 0,
    });
    // So slow that nothing of it comes back here.
    for (const onFailure of MODES) {
      rateSync.configureLimiter(onFailure, { store: "nats", onFailure, ratePerSecond: 1e-4, burst: BURST });
    }
    const answers = (mode: string) => rateSync.tryAcquire(mode).then(({ degraded }) => !degraded, () => false);
    const until = async (happens: () => Promise<boolean>) => {
      while (!await happens()) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    // A cluster that has just started has no leader yet.
    for (const mode of MODES) await until(() => answers(mode));
    // Where the store does not answer in time nothing is known, and nothing seems to be used.
    const remainingOf = (mode: string) =>
      rateSync.getLimiter(mode).getState().then(({ remaining }) => remaining, () => BURST);
    const left: number[] = [];
    for (const [i, mode] of MODES.entries()) await until(async () => (left[i] = await remainingOf(mode)) < BURST);

    const [first, second] = cluster.servers;
    await Promise.all([first!.kill("SIGKILL"), second!.kill("SIGKILL")]);
    const outcomes = await Promise.allSettled(MODES.map((mode) => rateSync.tryAcquire(mode)));
    for (const [i, outcome] of outcomes.entries()) {
      if (MODES[i] === "closed") {
        assert(outcome.status === "rejected", "it was answered without most of the servers");
        assertInstanceOf(outcome.reason, RateLimiterAcquisitionError);
        assertEquals(outcome.reason.reason, "backend");
      } else {
        assert(outcome.status === "fulfilled", `${MODES[i]} has failed`);
        assertEquals([outcome.value.allowed, outcome.value.degraded], [true, true], MODES[i]);
      }
    }

    await Promise.all([first!.restart(), second!.restart()]);
    for (const [i, mode] of MODES.entries()) {
      // What was asked without an answer may have been written.
      await until(async () => await remainingOf(mode) <= left[i]!);
    }
  },
);
