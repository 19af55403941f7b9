import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { decodeMessage, encodeMessage, type Message } from "../../examples/demo/messages.ts";

const counts = { waiting: 1, refusedAtOnce: 2, refusedInTime: 3, failed: 4, casFailures: 5 };

const MESSAGES: Message[] = [
  { kind: "ready" },
  { kind: "done" },
  { kind: "warning", text: "two\nlines" },
  { kind: "unable", text: "no server" },
  { kind: "report", report: { admissions: [{ at: 1.5, waitedMs: 0 }], counts } },
];

for (const message of MESSAGES) {
  test(`decodeMessage() reads what encodeMessage() wrote: ${message.kind}`, () => {
    const line = encodeMessage(message);
    assertEquals(line.trim().includes("\n"), false);
    assertEquals(decodeMessage(line), message);
  });
}

test("decodeMessage() does not believe anything else", () => {
  const report = encodeMessage({ kind: "report", report: { admissions: [{ at: 1, waitedMs: 0 }], counts } });
  for (const line of ["", "null", "3", "{}", '{"kind":"warning"}', '{"kind":"report"}', report.slice(0, -9)]) {
    assertEquals(decodeMessage(line), undefined);
  }
  assertEquals(decodeMessage(report.replace('"at":1', '"at":"1"')), undefined);
});
