/**
 * The name that was probably meant by an unknown one: the same except for case, `_` and `-`, or with at most a third of
 * it mistyped. `undefined` if no name is near.
 *
 * @param aliases Other spellings that stand for a name, such as `ratePerSecond` for `rate_per_second`.
 */
export function nearestName(
  given: string,
  names: Iterable<string>,
  aliases: Iterable<readonly [alias: string, name: string]> = [],
): string | undefined {
  const wanted = plain(given);
  let best: { readonly name: string; readonly distance: number } | undefined;
  const spellings = [...Array.from(names, (name) => [name, name] as const), ...aliases];
  for (const [spelling, name] of spellings) {
    const distance = editDistance(wanted, plain(spelling));
    if (distance < (best?.distance ?? Infinity)) best = { name, distance };
  }
  return best !== undefined && best.distance <= Math.max(1, Math.floor(wanted.length / 3)) ? best.name : undefined;
}

/**
 * " Did you mean '…'?" or nothing, to append to a message. If `given` is a word of some names, those count as meant
 * too, unless it is another spelling of a name.
 */
export function suggestion(
  given: string,
  names: Iterable<string>,
  aliases: Iterable<readonly [alias: string, name: string]> = [],
): string {
  const all = [...names];
  const spellings = [...aliases];
  const nearest = nearestName(given, all, spellings);
  const wanted = plain(given);
  const isSpelling = [...all, ...spellings.map(([alias]) => alias)].some((spelling) => plain(spelling) === wanted);
  const withWord = isSpelling ? [] : all.filter((name) => wordsOf(name).includes(wanted));
  const meant = new Set(nearest === undefined ? withWord : [nearest, ...withWord]);
  if (meant.size === 0 || meant.size > MOST_MEANT) return "";
  return ` Did you mean ${[...meant].map((name) => `'${name}'`).join(" or ")}?`;
}

/** A word that occurs in more names than this says nothing. */
const MOST_MEANT = 3;

/** The words of a name in snake_case or camelCase. */
function wordsOf(name: string): readonly string[] {
  return name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase().split("_");
}

function plain(name: string): string {
  // No known name is half as long: anything longer is not a typing mistake, and need not be compared.
  return name.slice(0, 64).toLowerCase().replaceAll(/[_\-\s]/g, "");
}

/** The number of insertions, deletions, replacements and swaps of neighbours that turn one text into the other. */
function editDistance(from: string, to: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1];
      let distance = Math.min(
        at(previous, column) + 1,
        at(current, column - 1) + 1,
        at(previous, column - 1) + (same ? 0 : 1),
      );
      if (from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]) {
        distance = Math.min(distance, at(beforePrevious, column - 2) + 1);
      }
      current.push(distance);
    }
    beforePrevious = previous;
    previous = current;
  }
  return at(previous, to.length);
}

function at(distances: readonly number[], index: number): number {
  return distances[index] ?? Infinity;
}
