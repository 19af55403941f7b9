// A separate process that uses a store once and closes it. Then it must end by itself.
import process from "node:process";
import { testStore } from "./nats_store.ts";

const store = testStore({ url: process.argv[2] ?? "" });
await store.kv.compareAndSet("a", new Uint8Array([1]), 0);
await store.kv.wake?.("a", () => {});
await store.close();
process.stdout.write("closed\n");
