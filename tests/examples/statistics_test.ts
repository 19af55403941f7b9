import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { countPerSlice, mostInAnyWindow, percentile } from "../../examples/demo/statistics.ts";

test("percentile() is the nearest rank", () => {
  const values = [50, 10, 40, 20, 30];
  assertEquals(percentile(values, 0.5), 30);
  assertEquals(percentile(values, 0.99), 50);
  assertEquals(percentile(values, 0), 10);
  assertEquals(percentile([], 0.5), undefined);
});

test("mostInAnyWindow() finds a window that starts anywhere, and does not count its end", () => {
  assertEquals(mostInAnyWindow([], 1_000), 0);
  assertEquals(mostInAnyWindow([0, 1_000, 2_000], 1_000), 1);
  assertEquals(mostInAnyWindow([2_000, 0, 999], 1_000), 2);
  assertEquals(mostInAnyWindow([0, 900, 950, 1_000, 1_800, 1_950], 1_000), 4);
});

test("countPerSlice() leaves out what lies outside", () => {
  assertEquals(countPerSlice([99, 100, 149, 150, 199, 200], { start: 100, sliceMs: 50, slices: 2 }), [2, 2]);
});
