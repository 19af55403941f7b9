// The default store, in one process. Every iteration is one acquisition, or as many as its name says.
import { createRateSync } from "../mod.ts";

const rateSync = createRateSync();
rateSync.configureLimiter("wide", { ratePerSecond: 1e8, burst: 1e9 });
rateSync.configureLimiter("full", { ratePerSecond: 1e-3 });
await rateSync.acquire("wide");
await rateSync.acquire("full");
const wide = rateSync.getLimiter("wide");
const full = rateSync.getLimiter("full");
const keys = Array.from({ length: 1_000 }, (_, i) => `user-${i}`);
let turn = 0;

Deno.bench("await a resolved promise", { group: "memory", baseline: true }, async () => {
  await Promise.resolve();
});
Deno.bench("memory: acquire", { group: "memory" }, async () => {
  await wide.acquire();
});
Deno.bench("memory: tryAcquire that is granted", { group: "memory" }, async () => {
  await wide.tryAcquire();
});
Deno.bench("memory: tryAcquire that is refused", { group: "memory" }, async () => {
  await full.tryAcquire();
});
Deno.bench("memory: acquire on 1,000 keys in turn", { group: "memory" }, async () => {
  await wide.acquire({ key: keys[turn++ % keys.length]! });
});

Deno.bench("memory: 1,000 acquires, one after the other", { group: "memory, concurrent", baseline: true }, async () => {
  for (let i = 0; i < 1_000; i++) await wide.acquire();
});
Deno.bench("memory: 1,000 acquires at once", { group: "memory, concurrent" }, async () => {
  await Promise.all(keys.map(() => wide.acquire()));
});
