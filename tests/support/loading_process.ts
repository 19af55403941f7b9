// A separate process that imports an entry of the package, uses it in steps, and after each step prints which modules
// the runtime has loaded by then.
import nodeModule, { createRequire } from "node:module";
import process from "node:process";

const seen = new Set<string>();
// Deno tells a hook. Bun has no hooks, but lists what it has loaded.
if ("registerHooks" in nodeModule && typeof nodeModule.registerHooks === "function") {
  nodeModule.registerHooks({
    load(url, context, next) {
      seen.add(url);
      return next(url, context);
    },
  });
}
const cache = createRequire(import.meta.url).cache;
const loaded = () => [...seen, ...Object.keys(cache)].map((name) => name.replaceAll("\\", "/"));

const quiet = () => {};
const logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
const nowhere = { url: "nats://127.0.0.1:1", backendTimeoutMs: 30_000 };

/** What is done with each entry, step by step. */
const STEPS: Readonly<Record<string, () => AsyncGenerator<string>>> = {
  async *"core"() {
    const { pureLimiter } = await import("../../src/entries/core.ts");
    yield "import";
    pureLimiter("api", { ratePerSecond: 10 }).decide(null, 0);
    yield "decide";
  },
  async *"limiter"() {
    const { createLimiter } = await import("../../src/entries/limiter.ts");
    yield "import";
    const kv = {
      get: () => Promise.resolve(null),
      compareAndSet: () => Promise.resolve({ ok: true as const, revision: 1 }),
      delete: () => Promise.resolve(),
      keys: async function* () {},
    };
    const clock = { now: () => Date.now(), sleep: () => new Promise<void>(() => {}) };
    await createLimiter("api", { kv, clock }, { ratePerSecond: 10 }).acquire();
    yield "acquire";
  },
  async *"memory"() {
    const { createLimiter, memoryStore } = await import("../../src/entries/memory.ts");
    yield "import";
    await createLimiter("api", memoryStore(), { ratePerSecond: 10 }).acquire();
    yield "acquire";
  },
  async *"config"() {
    const { parseConfiguration } = await import("../../src/entries/config.ts");
    yield "import";
    parseConfiguration('[stores.a]\nengine = "nats"\nurl = "nats://localhost"', { environment: () => undefined });
    yield "read";
  },
  async *"nats"() {
    const { createLimiter, natsStore } = await import("../../src/entries/nats.ts");
    yield "import";
    const store = natsStore(nowhere, { id: "nowhere", logger });
    const limiter = createLimiter("api", store, { ratePerSecond: 10, logger });
    yield "make";
    await limiter.acquire(); // admitted, because the store fails open
    yield "acquire";
  },
  async *"."() {
    const { createRateSync } = await import("../../mod.ts");
    yield "import";
    const rateSync = createRateSync({ logger });
    rateSync.configureStore("nats", { engine: "nats", ...nowhere });
    rateSync.configureLimiter("far", { store: "nats", ratePerSecond: 10 });
    rateSync.configureLimiter("near", { ratePerSecond: 10 });
    rateSync.getLimiter("far");
    await rateSync.acquire("near");
    yield "acquire in memory";
    await rateSync.acquire("far"); // admitted, because the store fails open
    yield "acquire on NATS";
  },
};

const steps: Record<string, string[]> = {};
for await (const step of STEPS[process.argv[2]!]!()) steps[step] = loaded();
process.stdout.write(JSON.stringify(steps));
process.exit(0);
