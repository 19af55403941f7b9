import { assert, assertGreater, assertLess } from "@std/assert";
import { test } from "node:test";
import { bundledSize } from "../support/bundle.ts";

/**
 * What `./core` may weigh. It shall become 8 KiB, and that takes a part that is loaded when it is needed: the loop of a key is
 * 8, what callers meet 5, rules and their state 5, the hand-over 4.5, checks and errors 4, and prefetch 0.8.
 */
const MOST_OF_CORE = 33.5 * 1_024;

test("./core stays small: minified and gzipped, with all that it exports", async () => {
  const size = await bundledSize("src/entries/core.ts");
  assertGreater(size, 1_024, "this is no bundle of a limiter");
  assertLess(size, MOST_OF_CORE, `./core has ${size} bytes`);
});

test("./memory adds less than 1 KiB to ./core", async () => {
  const [core, memory] = await Promise.all([bundledSize("src/entries/core.ts"), bundledSize("src/entries/memory.ts")]);
  assert(memory > core && memory - core < 1_024, `./core has ${core} bytes, ./memory ${memory}`);
});
