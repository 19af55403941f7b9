import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { importsIn } from "../support/project.ts";

test("each import of a file is judged by itself, also if another one names the same file", () => {
  const text = [
    'import type { A } from "./a.ts";',
    'import { a, type B } from "./a.ts";',
    'import * as b from "./b.ts"',
    '// import { c } from "./c.ts";',
    'import "./d.ts";',
    'export type * from "./e.ts";',
    "export const e = 5;",
    'export { a as f } from "./e.ts";',
    'const g = await import("node:fs");',
  ];
  const found = importsIn(text.join("\n")).map(({ name, typeOnly, dynamic }) => [name, typeOnly, dynamic]);
  assertEquals(
    found.toSorted(),
    [
      ["./a.ts", true, false],
      ["./a.ts", false, false],
      ["./b.ts", false, false],
      ["./e.ts", true, false],
      ["./e.ts", false, false],
      ["node:fs", false, true],
      ["./d.ts", false, false],
    ].toSorted(),
  );
});
