import { memoryStore } from "../../mod.ts";
import { resetSuite } from "./reset_suite.ts";

resetSuite("in memory", () => {
  const { kv, clock } = memoryStore();
  return Promise.resolve({ options: { kv, clock }, kv, [Symbol.asyncDispose]: () => Promise.resolve() });
});
