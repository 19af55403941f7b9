import { assertAlmostEquals, assertEquals } from "@std/assert";
import { test } from "node:test";
import { Trips } from "../../../src/core/store/trips.ts";

test("Trips know nothing at first, and then the shorter of the last two", () => {
  const trips = new Trips();
  assertEquals([trips.ms, trips.mostMs(0)], [0, 0]);
  const seen = [30, 2_000, 10, 40, 50].map((ms, i) => {
    trips.took(ms, i);
    return trips.ms;
  });
  assertEquals(seen, [30, 30, 10, 10, 40]);
});

test("Trips remember a slow answer, and for how much of it, by how long ago it was", () => {
  const trips = new Trips();
  trips.took(800, 10_000);
  assertEquals(trips.mostMs(10_000), 800);
  assertAlmostEquals(trips.mostMs(11_000), 400, 1e-9);
  trips.took(300, 11_000);
  assertAlmostEquals(trips.mostMs(12_000), 200, 1e-9);
  trips.took(250, 12_000);
  assertEquals(trips.mostMs(12_000), 250);
  // A clock that went back makes nothing slower.
  assertEquals(trips.mostMs(5_000), 250);
});

test("what took several answers is remembered as slow, and does not make a single one slower", () => {
  const trips = new Trips();
  trips.took(20, 0);
  trips.took(30, 1);
  trips.tookInAll(500, 2);
  assertEquals([trips.ms, trips.mostMs(2)], [20, 500]);
  trips.tookInAll(100, 3);
  assertEquals(trips.mostMs(2), 500);
});
