/** A number for people, with only as many digits as say something: `1,234`, `98.5`, `0.25`. */
export function number(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
}

/** A duration for people: `480 ms`, `1.25 s`. */
export function duration(ms: number): string {
  return Math.round(ms) < 1_000 ? `${number(ms < 10 ? ms : Math.round(ms))} ms` : `${number(ms / 1_000)} s`;
}

/** A part of a whole, never rounded up to all of it or down to nothing. */
export function percent(share: number): string {
  const whole = Math.round(share * 100);
  if (whole === 100 && share < 1) return "99 %";
  return whole === 0 && share > 0 ? "1 %" : `${whole} %`;
}

/** `1 process`, `4 processes`. */
export function counted(count: number, one: string, several: string): string {
  return `${number(count)} ${count === 1 ? one : several}`;
}

/** The text, cut to `columns`. */
export function fit(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, columns - 1)}…`;
}

/** The words of the text in lines of at most `columns`. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
