// A process that has only what a worker runtime has: no `process`, no `Deno`, no `Bun`, and so no files and no
// environment. It uses the package there, and prints the result.
const bare = globalThis as Record<string, unknown>; // globals that are not there have no type
for (const name of ["process", "Deno", "Bun", "Buffer", "global", "require"]) {
  if (!Reflect.deleteProperty(bare, name)) Reflect.set(bare, name, undefined);
}

// Some workers provide random numbers only while they answer a request, and not while they import.
const { getRandomValues } = crypto;
crypto.getRandomValues = () => {
  throw new Error("random numbers were drawn by an import");
};
const { acquire, ConfigValidationError, configureLimiter, loadConfig, LimiterNotFoundError } = await import(
  "../../mod.ts"
);
const config = await import("../../src/entries/config.ts");
const memory = await import("../../src/entries/memory.ts");
await import("../../src/entries/core.ts");
await import("../../src/entries/limiter.ts");
await import("../../src/entries/nats.ts");
await import("../../src/testing/mod.ts");
crypto.getRandomValues = getRandomValues;

async function errorOf(call: () => unknown): Promise<string> {
  try {
    await call();
    return "none";
  } catch (error) {
    if (error instanceof ConfigValidationError || error instanceof LimiterNotFoundError) return error.message;
    return `untyped: ${error}`;
  }
}

const globals = ["process", "Deno", "Buffer"].filter((name) => bare[name] !== undefined);
const unconfigured = await errorOf(() => acquire("api"));
configureLimiter("api", { ratePerSecond: 1_000 });
const permit = await acquire("api", { key: "k".repeat(1_000) });
const alone = memory.createLimiter("alone", memory.memoryStore(), { maxConcurrent: 1 });
const held = await alone.tryAcquire();
await alone.close();
const parsed = config.parseConfiguration('[stores.a]\nengine = "${ENGINE:-memory}"', { environment: () => undefined });
// deno-lint-ignore no-console -- there is no process.stdout
console.log(JSON.stringify({
  globals,
  unconfigured,
  granted: permit.limiterId.length,
  alone: held.allowed,
  parsed: parsed.stores.get("a"),
  environment: config.processEnvironment("HOME") ?? "none",
  found: await errorOf(() => loadConfig()),
  read: await errorOf(() => loadConfig("some.toml")),
}));
