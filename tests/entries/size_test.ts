import { assert, assertGreater, assertLess } from "@std/assert";
import { test } from "node:test";
import { bundledSize } from "../support/bundle.ts";

/**
 * What `./core` may weigh. It shall become 8 KiB: the loop and its rules alone are 9, the hand-over 3, prefetch 1.5, and what
 * is decided at once 1.
 */
const MOST_OF_CORE = 25.5 * 1_024;

test("./core stays small: minified and gzipped, with all that it exports", async () => {
  const size = await bundledSize("src/entries/core.ts");
  assertGreater(size, 1_024, "this is no bundle of a limiter");
  assertLess(size, MOST_OF_CORE, `./core has ${size} bytes`);
});

test("./memory adds less than 1 KiB to ./core", async () => {
  const [core, memory] = await Promise.all([bundledSize("src/entries/core.ts"), bundledSize("src/entries/memory.ts")]);
  assert(memory > core && memory - core < 1_024, `./core has ${core} bytes, ./memory ${memory}`);
});
