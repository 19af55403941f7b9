import { memoryStore } from "../../mod.ts";
import { limitsSuite } from "./limits_suite.ts";

limitsSuite("in memory", () => {
  const { kv, clock } = memoryStore();
  return Promise.resolve({ options: { kv, clock }, kv, [Symbol.asyncDispose]: () => Promise.resolve() });
});
