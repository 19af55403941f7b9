import { assert, assertGreater, assertLess } from "@std/assert";
import { test } from "node:test";
import { bundledSize } from "../support/bundle.ts";

/** What the algorithm alone may weigh: whoever wants no more than it shall not load more. */
const MOST_OF_CORE = 8 * 1_024;
/** What a limiter may weigh, with all that it does where many processes want the same key and the store fails. */
const MOST_OF_LIMITER = 39 * 1_024;

test("./core stays small: minified and gzipped, with all that it exports", async () => {
  const size = await bundledSize("src/entries/core.ts");
  assertGreater(size, 1_024, "this is no bundle of an algorithm");
  assertLess(size, MOST_OF_CORE, `./core has ${size} bytes`);
});

test("./limiter does not grow unseen, and ./memory adds less than 1 KiB to it", async () => {
  const [limiter, memory] = await Promise.all([
    bundledSize("src/entries/limiter.ts"),
    bundledSize("src/entries/memory.ts"),
  ]);
  assertLess(limiter, MOST_OF_LIMITER, `./limiter has ${limiter} bytes`);
  assert(memory > limiter && memory - limiter < 1_024, `./limiter has ${limiter} bytes, ./memory ${memory}`);
});
