import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { readText } from "../support/project.ts";
import { allTitlesIn } from "../support/titles.ts";

/** A test that the page names: a part of its title, and its file. */
interface Named {
  readonly title: string;
  readonly file: string;
}

/** What the README says under "What is promised when": each fault with the tests that are said to show it. */
function faultsIn(readme: string): { readonly fault: string; readonly tests: readonly Named[] }[] {
  const [, page = ""] = /^## What is promised when\n([\s\S]*?)^## /m.exec(readme) ?? [];
  const faults = page.split(/^(?=\*\*)/m).slice(1);
  return faults.map((text) => ({ fault: /^\*\*([^*]+)\*\*/.exec(text)?.[1] ?? text, tests: namedIn(text) }));
}

/** In each item "Shown by" titles stand as code, and behind them the file that they are in. */
function namedIn(text: string): Named[] {
  const found: Named[] = [];
  for (const [, item = ""] of text.matchAll(/^- Shown by((?:.+\n?)+)/gm)) {
    let titles: string[] = [];
    for (const [, title, file] of item.matchAll(/`([^`]+)`|\]\(([^)]+)\)/g)) {
      if (title !== undefined) titles.push(title.replace(/\s+/g, " "));
      else if (file !== undefined) {
        found.push(...titles.map((title) => ({ title, file })));
        titles = [];
      }
    }
    assertEquals(titles, [], "behind the titles their file is named");
  }
  return found;
}

const FAULTS = faultsIn(readText("README.md"));

test("every test that the page of promises names exists, and is one alone", () => {
  const wrong: string[] = [];
  for (const { fault, tests } of FAULTS) {
    for (const { title, file } of tests) {
      const count = allTitlesIn(readText(file)).filter((text) => text.includes(title)).length;
      if (count !== 1) wrong.push(`${fault}: ${count} titles in ${file} have "${title}"`);
    }
  }
  assertEquals(wrong, []);
});

test("every promise of the page names a test", () => {
  assert(FAULTS.length > 20, `${FAULTS.length} were found`);
  assertEquals(FAULTS.filter(({ tests }) => tests.length === 0).map(({ fault }) => fault), []);
});

test("a promise that names no test, or one that does not exist, is found", () => {
  const page =
    "## What is promised when\n\n**A.**\n\n- x\n- Shown by: `one`, `two\n  words` in\n  [f](tests/f.ts), `three` in\n" +
    "  [g](tests/g.ts)\n\n**B**, or so.\n\n- `no` title\n\n## Next\n";
  assertEquals(faultsIn(page), [
    {
      fault: "A.",
      tests: [
        { title: "one", file: "tests/f.ts" },
        { title: "two words", file: "tests/f.ts" },
        { title: "three", file: "tests/g.ts" },
      ],
    },
    { fault: "B", tests: [] },
  ]);
});
