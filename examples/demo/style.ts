/** What parts of the screen look like. */
export interface Style {
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly steady: (text: string) => string;
  readonly burst: (text: string) => string;
}

const same = (text: string) => text;

export const PLAIN: Style = { strong: same, faint: same, good: same, bad: same, steady: same, burst: same };

/** The sixteen colours that the theme of every terminal defines. */
export const COLOURED: Style = {
  strong: (text) => `\x1b[1m${text}\x1b[22m`,
  faint: (text) => `\x1b[2m${text}\x1b[22m`,
  good: (text) => `\x1b[32m${text}\x1b[39m`,
  bad: (text) => `\x1b[31m${text}\x1b[39m`,
  steady: (text) => `\x1b[36m${text}\x1b[39m`,
  burst: (text) => `\x1b[34m${text}\x1b[39m`,
};
