// The hot path on a real nats-server, beside the raw compare-and-set of the same client on the same connection. In each
// group every iteration does the same number of acquisitions, so the printed ratio is that of their throughput.
// (Deno.bench waits only for functions that are marked async.)
import { Kvm } from "@nats-io/kv";
import { createRateSync } from "../mod.ts";
import { startServer } from "../tests/support/nats_server.ts";
import { connectTo } from "./connection.ts";

const server = await startServer();
const connection = await connectTo(server.url);
const rateSync = createRateSync();
rateSync.configureStore("nats", { engine: "nats", connection, bucketName: "bench", autoCreate: true });
rateSync.configureLimiter("api", { store: "nats", ratePerSecond: 1e8, burst: 1e9, onFailure: "closed" });
rateSync.configureLimiter("ahead", {
  store: "nats",
  ratePerSecond: 1e8,
  burst: 1e9,
  onFailure: "closed",
  prefetch: 5_000,
});
await rateSync.initializeLimiter("api");
const ahead = rateSync.getLimiter("ahead");
const limiter = rateSync.getLimiter("api");

const kv = await new Kvm(connection).open("bench");
const value = new Uint8Array(150);
let revision = await kv.put("raw", value);

async function rawUpdates(count: number): Promise<void> {
  for (let i = 0; i < count; i++) revision = await kv.update("raw", value, revision);
}

/** Runs `callers` at once, each of which acquires again as soon as it is served, `each` times. */
async function acquires(
  callers: number,
  each: number,
  keyOf?: (caller: number, turn: number) => string,
): Promise<void> {
  await Promise.all(Array.from({ length: callers }, async (_, caller) => {
    for (let turn = 0; turn < each; turn++) {
      if (keyOf) await limiter.acquire({ key: keyOf(caller, turn) });
      else await limiter.acquire();
    }
  }));
}

Deno.bench("nats: raw kv.update", { group: "sequential", baseline: true }, async () => {
  await rawUpdates(1);
});
Deno.bench("nats: tryAcquire", { group: "sequential" }, async () => {
  await limiter.tryAcquire();
});
Deno.bench("nats: acquire, 1 caller", { group: "sequential" }, async () => {
  await acquires(1, 1);
});
Deno.bench("nats: acquire, 1 caller, prefetch", { group: "sequential" }, async () => {
  await ahead.acquire();
});

Deno.bench(
  "nats: 1,000 raw kv.update, one after the other",
  { group: "1,000 acquisitions", baseline: true, n: 10 },
  async () => {
    await rawUpdates(1_000);
  },
);
Deno.bench("nats: 100 callers, one key", { group: "1,000 acquisitions" }, async () => {
  await acquires(100, 10);
});
Deno.bench(
  "nats: 100 callers, 1,000 keys",
  { group: "1,000 acquisitions" },
  async () => {
    await acquires(100, 10, (caller, turn) => `key-${caller * 10 + turn}`);
  },
);

Deno.bench("nats: 10,000 raw kv.update, one after the other", {
  group: "10,000 acquisitions",
  baseline: true,
  n: 2,
  warmup: 0,
}, async () => {
  await rawUpdates(10_000);
});
Deno.bench("nats: 1,000 callers, one key", { group: "10,000 acquisitions" }, async () => {
  await acquires(1_000, 10);
});
