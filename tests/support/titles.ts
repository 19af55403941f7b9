/** A test's title as it stands in the source, with the criteria that it names. */
export interface Title {
  readonly text: string;
  readonly criteria: readonly string[];
}

/** What registers tests: the runner's functions, and suites that register several. */
const REGISTRAR = /(?:^|[.\s])(?:test|it|check|\w+Suite)\(\s*$/;
const LITERAL = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|\$\{(?:[^{}]|\{[^{}]*\})*\}|[^`\\])*`/g;
const BRACKETS = /\[([A-Z]{2,5}-\d[^\]]*)\]/g;
const PART = /^([A-Z]{2,5})-(\d+)(?:\.\.(?:\1-)?(\d+))?$/;

/**
 * The titles in a test file that name criteria: `[TB-1]`, `[TB-1, CON-2]` or `[STA-4..9]`. Comments do not count.
 *
 * @throws {Error} if a text that is not the title of a test names criteria, or if what stands in brackets cannot be
 * read.
 */
export function titlesIn(code: string): Title[] {
  const titles: Title[] = [];
  for (const { literal, isTitle } of literalsIn(code)) {
    const criteria = criteriaIn(literal);
    if (criteria.length === 0) continue;
    if (!isTitle) throw new Error(`${literal} names criteria, and is not the title of a test that runs`);
    titles.push({ text: literal.slice(1, -1), criteria });
  }
  return titles;
}

/** All titles in a test file, as they stand in the source, with criteria or without. Comments do not count. */
export function allTitlesIn(code: string): string[] {
  return literalsIn(code).flatMap(({ literal, isTitle }) => isTitle ? [literal.slice(1, -1)] : []);
}

function literalsIn(code: string): { readonly literal: string; readonly isTitle: boolean }[] {
  const active = code.replace(/^[ \t]*\/\*[\s\S]*?\*\//gm, "").replace(/^[ \t]*\/\/.*$/gm, "");
  return Array.from(active.matchAll(LITERAL), ({ 0: literal, index }) => ({
    literal,
    isTitle: REGISTRAR.test(active.slice(0, index)),
  }));
}

function criteriaIn(text: string): string[] {
  return Array.from(text.matchAll(BRACKETS), ([, list]) => list!.split(",").flatMap((part) => rangeOf(part.trim())))
    .flat();
}

function rangeOf(part: string): string[] {
  const [, group, first, last = first] = PART.exec(part) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (group === undefined || from < 1 || to < from) throw new Error(`[${part}] is no criterion and no range of them`);
  return Array.from({ length: to - from + 1 }, (_, i) => `${group}-${from + i}`);
}
