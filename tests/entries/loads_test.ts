import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { outputOf, startChild } from "../support/child.ts";

/** After each step, whether code for NATS was loaded by then: this package's, and the client. */
async function natsLoadedBy(entry: string): Promise<Record<string, { ours: boolean; client: boolean }>> {
  const output = await outputOf(startChild("tests/support/loading_process.ts", entry));
  const steps = Object.entries<string[]>(JSON.parse(output));
  return Object.fromEntries(steps.map(([step, modules]) => {
    // Otherwise this test would see nothing, and find everything in order.
    assert(modules.some((name) => name.includes("/src/core/")), `${entry}, ${step}: the loaded modules are not known`);
    const ours = modules.some((name) => name.includes("/src/adapters/nats/"));
    const client = modules.some((name) => name.includes("@nats-io"));
    return [step, { ours, client }];
  }));
}

const nothing = { ours: false, client: false };

test("./core, ./limiter and ./memory load no code for NATS, imported and used", async () => {
  assertEquals(await natsLoadedBy("core"), { import: nothing, decide: nothing });
  assertEquals(await natsLoadedBy("limiter"), { import: nothing, acquire: nothing });
  assertEquals(await natsLoadedBy("memory"), { import: nothing, acquire: nothing });
});

test("./config loads no code for NATS, whatever the file says", async () => {
  assertEquals(await natsLoadedBy("config"), { import: nothing, read: nothing });
});

test("./nats loads the NATS client with the first use of a store, and not before", async () => {
  const ours = { ours: true, client: false };
  assertEquals(await natsLoadedBy("nats"), { import: ours, make: ours, acquire: { ours: true, client: true } });
});

test("the package loads the NATS client when a NATS store is used, and not before", async () => {
  const ours = { ours: true, client: false };
  assertEquals(await natsLoadedBy("."), {
    "import": ours,
    "acquire in memory": ours,
    "acquire on NATS": { ours: true, client: true },
  });
});
