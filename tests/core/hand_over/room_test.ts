import { assertEquals, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import { Room } from "../../../src/core/hand_over/room.ts";

/** A process that has always just written, which takes so long. */
const writer = (tripMs = 1) => ({ tripMs, wroteAt: Infinity });

test("there is room for as long as four writes take, but for no more than 50 ms", () => {
  for (const [tripMs, roomMs] of [[1, 4], [10, 40], [100, 50]] as const) {
    const room = new Room(writer(tripMs), 0);
    room.make(20);
    assertEquals(room.leftMs(20), roomMs);
    assertEquals(room.leftMs(20 + roomMs), 0);
    // It makes no difference whether the process was about to write.
    const resting = new Room({ tripMs, wroteAt: -Infinity }, 0);
    resting.make(20);
    assertEquals(resting.leftMs(20), roomMs);
  }
});

test("whoever asks for room has none within 20 ms after there was some, so that the writer can write", () => {
  const room = new Room(writer(), 0);
  room.make(19);
  assertLessOrEqual(room.leftMs(19), 0);
  room.make(20);
  assertEquals(room.leftMs(20), 4);
  // It is over at 24.
  for (let now = 21; now < 44; now++) room.make(now);
  assertLessOrEqual(room.leftMs(43), 0);
  room.make(44);
  assertEquals(room.leftMs(44), 4);
});

test("a process that writes without a pause makes room by itself after 250 ms, and one that pauses does not", () => {
  for (const [pauseMs, pausedAt] of [[0, 251], [1, 251], [2, undefined]] as const) {
    const ledger = writer();
    const room = new Room(ledger, 0);
    let first: number | undefined;
    for (let now = 0; now < 500; now++) {
      ledger.wroteAt = now - pauseMs;
      if (room.leftMs(now) > 0) first ??= now;
    }
    assertEquals(first, pausedAt, `${pauseMs} ms`);
  }
});
