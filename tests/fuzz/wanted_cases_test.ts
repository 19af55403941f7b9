import { assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { wantedCases } from "./wanted_cases.ts";

test("the variables of the fuzz tests say how many cases to try, and which", () => {
  assertEquals(wantedCases({}), {});
  assertEquals(wantedCases({ FUZZ_RUNS: "100000" }), { numRuns: 100_000 });
  assertEquals(wantedCases({ FUZZ_SEED: "-1234", FUZZ_PATH: "12:0:3" }), { seed: -1_234, path: "12:0:3" });
});

test("variables of the fuzz tests that would let them pass without trying anything are refused", () => {
  for (const FUZZ_RUNS of ["abc", "0", "", "-5", "1.5", "1e5", "NaN"]) {
    const message = `FUZZ_RUNS must be how many cases to try, 1 or more, and is '${FUZZ_RUNS}'.`;
    assertThrows(() => wantedCases({ FUZZ_RUNS }), Error, message);
  }
  for (const FUZZ_SEED of ["x", "", "1.5"]) {
    assertThrows(() => wantedCases({ FUZZ_SEED }), Error, "FUZZ_SEED must be an integer");
  }
  for (const FUZZ_PATH of ["x", "1:", ":"]) {
    assertThrows(() => wantedCases({ FUZZ_PATH }), Error, "FUZZ_PATH must be numbers");
  }
});
