import { assertEquals, assertThrows } from "@std/assert";
import { dirname, join } from "node:path/posix";
import { test } from "node:test";
import { importsOf, readText, sourcesIn } from "../support/project.ts";
import { titlesIn } from "../support/titles.ts";
import { CRITERIA, type Criterion, LATER } from "./criteria.ts";

/** Every criterion that is built, by its number. */
const CRITERIA_BY_NUMBER: ReadonlyMap<string, Criterion> = new Map(
  Object.entries<readonly Criterion[]>(CRITERIA).flatMap(([group, criteria]) =>
    criteria.map((criterion, i) => [`${group}-${i + 1}`, criterion] as const)
  ),
);

const LATER_NUMBERS: ReadonlySet<string> = new Set(
  Object.entries(LATER).flatMap(([group, count]) => Array.from({ length: count }, (_, i) => `${group}-${i + 1}`)),
);

/** The files that a test run executes: those of tests, and what they import. */
function executed(): string[] {
  const found = new Set<string>();
  const visit = (file: string) => {
    if (found.has(file)) return;
    found.add(file);
    for (const { name, typeOnly } of importsOf(file)) {
      if (name.startsWith(".") && !typeOnly) visit(join(dirname(file), name));
    }
  };
  for (const file of sourcesIn("tests")) if (file.endsWith("_test.ts")) visit(file);
  return [...found].filter((file) => file.startsWith("tests/")).sort();
}

const named = new Map<string, string[]>();
for (const file of executed().filter((file) => file !== "tests/project/criteria_test.ts")) {
  for (const { text, criteria } of titlesIn(readText(file))) {
    for (const number of criteria) named.set(number, [...named.get(number) ?? [], `${file}: ${text}`]);
  }
}

test("every criterion has a test that names it", () => {
  const untested = [...CRITERIA_BY_NUMBER].filter(([number, criterion]) =>
    typeof criterion === "string" && !named.has(number)
  );
  assertEquals(untested.map(([number, criterion]) => `${number}: ${criterion}`), []);
});

test("every criterion that a test names is one", () => {
  const unknown = [...named].filter(([number]) => !CRITERIA_BY_NUMBER.has(number) && !LATER_NUMBERS.has(number));
  assertEquals(unknown, []);
});

test("a criterion that needs no test has none, and says why", () => {
  const exempt = [...CRITERIA_BY_NUMBER].filter(([, criterion]) => typeof criterion === "object");
  assertEquals(exempt.filter(([number]) => named.has(number)), []);
  for (const [number, criterion] of exempt) {
    assertEquals(typeof criterion === "object" && /^[A-Z].{20,}\.$/.test(criterion.needsNoTest), true, number);
  }
});

test("titlesIn() finds the criteria in titles, one, several and ranges of them", () => {
  const code = [
    'test("one [TB-1]", () => {});',
    "  check(\n    `two ${f(`x`, { a: 1 })} [TB-2, CON-3]`,",
    '  server.test("a range [STA-4..6, CHK-1..CHK-2]", async () => {});',
    "kvSuite(`three [${version}] [STO-3]`, open);",
    "test('four = \"4\" [STO-4]', () => {});",
    'test("[run] and [3 x y] are none", () => {});',
    '// test("not this one [TB-9]")',
    '/* test("nor this one [TB-9]") */',
  ].join("\n");
  assertEquals(titlesIn(code).map(({ criteria }) => criteria), [
    ["TB-1"],
    ["TB-2", "CON-3"],
    ["STA-4", "STA-5", "STA-6", "CHK-1", "CHK-2"],
    ["STO-3"],
    ["STO-4"],
  ]);
});

test("titlesIn() refuses criteria that name nothing, and texts that are no titles", () => {
  const wrong = [
    'test("[TB-1 and TB-2]", f)',
    'test("[TB-0]", f)',
    'test("[TB-9..3]", f)',
    'test("[STA-4..TB-9]", f)',
    'test.skip("skipped [TB-1]", f)',
    'const title = "elsewhere [TB-1]";',
  ];
  for (const code of wrong) assertThrows(() => titlesIn(code), Error);
});
