// A process that may read neither files nor its environment: what the package does there.
import { configureLimiter, ConfigValidationError, loadConfig, tryAcquire } from "../../mod.ts";

async function errorOf(call: () => Promise<unknown>): Promise<string> {
  return await call().then(() => "none", (error) => error instanceof ConfigValidationError ? error.message : "untyped");
}

configureLimiter("api", { ratePerSecond: 1_000 });
process.stdout.write(JSON.stringify({
  granted: (await tryAcquire("api")).allowed,
  found: await errorOf(() => loadConfig()),
  read: await errorOf(() => loadConfig("some.toml")),
}));
