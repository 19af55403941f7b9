import { parse as parseScalar } from "@std/toml";
import { checkText } from "../core/arguments.ts";
import { ConfigValidationError } from "../core/errors.ts";
import { RESERVED_NAMES } from "./ids.ts";

// @std/toml reads the numbers and booleans. It cannot be given the whole text: a second definition of a key wins or is
// merged silently, `__proto__` is lost or used, integers above 2^53 are rounded, `\U0001F600` is misread, and valid
// forms such as a table after its own subtable are refused. tests/config/toml_test.ts shows each of these.

/**
 * A value in a TOML document, except dates: no setting is a date, so {@link parseToml} refuses them.
 *
 * @example
 * ```ts
 * import type { TomlValue } from "@ratesync/core/config";
 *
 * const value: TomlValue = ["a", 1, true];
 * console.log(value.length); // 3
 * ```
 */
export type TomlValue = string | number | boolean | TomlValue[] | TomlTable;

/**
 * A table of a TOML document. It has no prototype, so that every property of it was written in the document.
 *
 * @example
 * ```ts
 * import { parseToml, type TomlTable } from "@ratesync/core/config";
 *
 * const root: TomlTable = parseToml("answer = 42");
 * console.log(Object.keys(root)); // ["answer"]
 * ```
 */
export interface TomlTable {
  /** Any key. */
  [key: string]: TomlValue;
}

/** Tells a table from the other values. */
export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value);
}

/** How a table was created, which decides whether later lines may still add to it. */
type Origin = "implied by a subtable" | "header" | "dotted key" | "inline";

const BARE_KEY = /[A-Za-z0-9_-]+/y;
const SCALAR = /[A-Za-z0-9_+\-.:]+/y;
const BLANKS = /[ \t]*/y;
const COMMENT = /#[^\n\r]*/y;
const END_OF_LINE = /\r?\n/y;
const LINE_CONTINUATION = /\\[ \t]*\r?\n[ \t\r\n]*/y;
const INTEGER = /^(?:[+-]?[0-9_]+|0[xob][0-9A-Fa-f_]+)$/;
const DATE_OR_TIME = /^(?:\d{4}-\d{2}-\d{2}|\d{2}:\d{2})/;
// deno-lint-ignore no-control-regex -- these are the characters that TOML forbids
const FORBIDDEN_CHARACTER = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]|\r(?!\n)/;

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["b", "\b"],
  ["t", "\t"],
  ["n", "\n"],
  ["f", "\f"],
  ["r", "\r"],
  ['"', '"'],
  ["\\", "\\"],
]);

const MAXIMUM_DEPTH = 64;

/**
 * Reads a TOML 1.0 document into plain data, strictly: anything that is defined twice, that a number cannot hold or
 * that could reach an object's prototype is an error, and never lost. No error shows a value, because it may be a
 * secret.
 *
 * @param text The document; a byte order mark at its start and Windows line ends are fine.
 * @param file The path for error messages, if the text came from a file.
 * @throws {ConfigValidationError} If the text is not valid TOML (field `config_file`), or the named key is defined
 * twice, has a reserved name, or holds an integer beyond ±(2^53 - 1), a date or a time.
 *
 * @example
 * ```ts
 * import { parseToml } from "@ratesync/core/config";
 *
 * console.log(parseToml('[stores.main]\nengine = "memory"')["stores"]); // { main: { engine: "memory" } }
 * ```
 */
export function parseToml(text: string, file?: string): TomlTable {
  checkText(text);
  const source = text.startsWith("\uFEFF") ? text.slice(1) : text;
  const root = newTable();
  const origins = new Map<TomlTable, Origin>([[root, "header"]]);
  const tablesByHeader = new Set<TomlValue[]>();
  const firstPositions = new Map<TomlTable, Map<string, number>>();
  let position = 0;

  const forbidden = FORBIDDEN_CHARACTER.exec(source);
  if (forbidden) {
    position = forbidden.index;
    throw invalid("a control character must be written as an escape such as \\u0000");
  }
  readDocument();
  return root;

  function readDocument(): void {
    let current = root;
    let path: readonly string[] = [];
    for (;;) {
      skipBlankLines();
      if (position >= source.length) return;
      if (source.startsWith("[", position)) {
        const many = source.startsWith("[[", position);
        position += many ? 2 : 1;
        path = readKey([]);
        const closing = many ? "]]" : "]";
        if (!take(closing)) throw invalid(`the table's name must end with '${closing}'`);
        current = many ? openTableOfMany(path) : openTable(path);
      } else {
        readPair(current, path, 0);
      }
      skip(BLANKS);
      skip(COMMENT);
      if (position < source.length && !skip(END_OF_LINE)) throw invalid("expected the end of the line");
    }
  }

  function readPair(table: TomlTable, path: readonly string[], depth: number): void {
    const key = readKey(path);
    const keyEnd = position;
    const parents = key.slice(0, -1);
    const last = lastOf(key);
    let target = table;
    for (const [index, name] of parents.entries()) {
      target = openDottedTable(target, name, [...path, ...parents.slice(0, index + 1)]);
    }
    const wholePath = [...path, ...key];
    if (Object.hasOwn(target, last)) throw duplicate(wholePath, target);
    // What is there may be a value that lost its key, so it is not shown.
    if (!take("=")) throw invalid("expected '=' after the key");
    skip(BLANKS);
    define(target, last, readValue(wholePath, depth), keyEnd);
  }

  /** Dotted keys may add only to what dotted keys of the same table began. */
  function openDottedTable(parent: TomlTable, name: string, path: readonly string[]): TomlTable {
    const existing = ownValue(parent, name);
    if (existing === undefined) return define(parent, name, newTable("dotted key"), position);
    if (!isTable(existing)) throw duplicate(path, parent);
    const origin = origins.get(existing);
    if (origin === "header" || origin === "inline") throw duplicate(path, parent);
    origins.set(existing, "dotted key");
    return existing;
  }

  function openTable(path: readonly string[]): TomlTable {
    const parent = openParents(path);
    const name = lastOf(path);
    const existing = ownValue(parent, name);
    if (existing === undefined) return define(parent, name, newTable("header"), position);
    if (!isTable(existing) || origins.get(existing) !== "implied by a subtable") throw duplicate(path, parent);
    origins.set(existing, "header");
    return existing;
  }

  function openTableOfMany(path: readonly string[]): TomlTable {
    const parent = openParents(path);
    const name = lastOf(path);
    const table = newTable("header");
    const existing = ownValue(parent, name);
    if (existing === undefined) {
      tablesByHeader.add(define(parent, name, [table], position));
    } else if (Array.isArray(existing) && tablesByHeader.has(existing)) {
      existing.push(table);
    } else {
      throw duplicate(path, parent);
    }
    return table;
  }

  /** Walks to the table that contains the last name of a header; an array of tables stands for its newest table. */
  function openParents(path: readonly string[]): TomlTable {
    let table = root;
    for (const [index, name] of path.slice(0, -1).entries()) {
      const existing = ownValue(table, name);
      const newest = Array.isArray(existing) && tablesByHeader.has(existing) ? existing.at(-1) : existing;
      if (newest === undefined) {
        table = define(table, name, newTable("implied by a subtable"), position);
      } else if (isTable(newest) && origins.get(newest) !== "inline") {
        table = newest;
      } else {
        throw duplicate(path.slice(0, index + 1), table);
      }
    }
    return table;
  }

  function readKey(path: readonly string[]): readonly string[] {
    const names: string[] = [];
    do {
      skip(BLANKS);
      const name = readSimpleKey();
      names.push(name);
      if (RESERVED_NAMES.has(name)) {
        const field = [...path, ...names].join(".");
        throw new ConfigValidationError(`Line ${lineAt(position)}: '${name}' is a reserved name. Choose another one.`, {
          field,
          expected: "another name",
          received: name,
          file,
        });
      }
      if (names.length > MAXIMUM_DEPTH) throw invalid(`a key has more than ${MAXIMUM_DEPTH} parts`);
      skip(BLANKS);
    } while (take("."));
    return names;
  }

  function readSimpleKey(): string {
    const quote = source[position];
    if (quote === '"' || quote === "'") {
      if (source.startsWith(quote.repeat(3), position)) throw invalid("a key cannot be a multi-line string");
      return readString(quote);
    }
    const bare = match(BARE_KEY);
    if (!bare) throw invalid("expected a key (letters, digits, '-' and '_'; others in quotes)");
    return bare;
  }

  function readValue(path: readonly string[], depth: number): TomlValue {
    if (depth > MAXIMUM_DEPTH) throw invalid(`values are nested more than ${MAXIMUM_DEPTH} deep`);
    switch (source[position]) {
      case '"':
        return readString('"');
      case "'":
        return readString("'");
      case "[":
        return readArray(path, depth);
      case "{":
        return readInlineTable(path, depth);
      default:
        return readScalar(path);
    }
  }

  function readArray(path: readonly string[], depth: number): TomlValue[] {
    const values: TomlValue[] = [];
    position += 1;
    for (;;) {
      skipBlankLines();
      if (take("]")) return values;
      values.push(readValue([...path.slice(0, -1), `${lastOf(path)}[${values.length}]`], depth + 1));
      skipBlankLines();
      if (take("]")) return values;
      if (!take(",")) throw invalid(`expected ',' or ']' in the list '${path.join(".")}'`);
    }
  }

  function readInlineTable(path: readonly string[], depth: number): TomlTable {
    const table = newTable("header");
    position += 1;
    skip(BLANKS);
    if (!take("}")) {
      do {
        readPair(table, path, depth + 1);
        skip(BLANKS);
      } while (take(","));
      if (!take("}")) throw invalid(`expected ',' or '}' in the table '${path.join(".")}'`);
    }
    origins.set(table, "inline");
    return table;
  }

  function readString(quote: '"' | "'"): string {
    const opening = quote.repeat(3);
    const multiline = source.startsWith(opening, position);
    const closing = multiline ? opening : quote;
    const start = position;
    position += closing.length;
    if (multiline) skip(END_OF_LINE);
    let content = "";
    while (!source.startsWith(closing, position)) {
      const character = source[position];
      if (character === undefined || (!multiline && character === "\n")) {
        position = start;
        throw invalid(`the string that starts here has no closing ${closing}`);
      }
      if (character === "\\" && quote === '"') {
        content += multiline && skip(LINE_CONTINUATION) ? "" : readEscape();
      } else {
        content += character;
        position += 1;
      }
    }
    position += closing.length;
    // Up to two quotes may come directly before the closing three.
    for (let extra = 0; multiline && extra < 2 && take(quote); extra += 1) content += quote;
    return content;
  }

  function readEscape(): string {
    const letter = source[position + 1] ?? "";
    const simple = ESCAPES.get(letter);
    if (simple !== undefined) {
      position += 2;
      return simple;
    }
    const digits = letter === "u" ? 4 : letter === "U" ? 8 : 0;
    const hex = source.slice(position + 2, position + 2 + digits);
    const codePoint = /^[0-9A-Fa-f]+$/.test(hex) && hex.length === digits ? Number.parseInt(hex, 16) : -1;
    const isCharacter = codePoint >= 0 && codePoint <= 0x10ffff && !(codePoint >= 0xd800 && codePoint <= 0xdfff);
    if (!isCharacter) throw invalid("a backslash in double quotes must begin a TOML escape; use \\\\ or single quotes");
    position += 2 + digits;
    return String.fromCodePoint(codePoint);
  }

  function readScalar(path: readonly string[]): number | boolean {
    const start = position;
    const key = path.join(".");
    const token = match(SCALAR);
    if (DATE_OR_TIME.test(token)) {
      throw wrongValue(
        path,
        "must not be a date or a time. Write text in quotes.",
        "text, a number or a boolean",
        "a date or time",
      );
    }
    const value = readToken(token);
    if (value === undefined) {
      position = start;
      throw invalid(`expected a number, true or false, or a text in quotes for '${key}'`);
    }
    if (typeof value === "number" && INTEGER.test(token) && !Number.isSafeInteger(value)) {
      throw wrongValue(path, "is too large to be kept exactly.", "an integer within ±9007199254740991", "a larger one");
    }
    return value;
  }

  function define<T extends TomlValue>(table: TomlTable, name: string, value: T, at: number): T {
    table[name] = value;
    const positions = firstPositions.get(table) ?? new Map<string, number>();
    firstPositions.set(table, positions.set(name, at));
    return value;
  }

  function newTable(origin?: Origin): TomlTable {
    const table: TomlTable = Object.create(null);
    if (origin !== undefined) origins.set(table, origin);
    return table;
  }

  function skipBlankLines(): void {
    do {
      skip(BLANKS);
      skip(COMMENT);
    } while (skip(END_OF_LINE));
  }

  function match(pattern: RegExp): string {
    pattern.lastIndex = position;
    const found = pattern.exec(source)?.[0] ?? "";
    position += found.length;
    return found;
  }

  function skip(pattern: RegExp): boolean {
    return match(pattern) !== "";
  }

  function take(expected: string): boolean {
    if (!source.startsWith(expected, position)) return false;
    position += expected.length;
    return true;
  }

  function lineAt(index: number): number {
    return source.slice(0, index).split("\n").length;
  }

  function invalid(reason: string): ConfigValidationError {
    const line = lineAt(position);
    const column = position - source.lastIndexOf("\n", position - 1);
    return new ConfigValidationError(`Failed to parse TOML file: line ${line}, column ${column}: ${reason}.`, {
      field: "config_file",
      expected: "valid TOML",
      received: file ?? "text without a file",
      file,
    });
  }

  function wrongValue(
    path: readonly string[],
    fault: string,
    expected: string,
    received: string,
  ): ConfigValidationError {
    const field = path.join(".");
    return new ConfigValidationError(`Line ${lineAt(position)}: '${field}' ${fault}`, {
      field,
      expected,
      received,
      file,
    });
  }

  function duplicate(path: readonly string[], parent: TomlTable): ConfigValidationError {
    const first = firstPositions.get(parent)?.get(lastOf(path));
    const before = first === undefined ? "before" : `on line ${lineAt(first)}`;
    return wrongValue(path, `is already defined ${before}. Keep one of the two.`, "one definition", "a second one");
  }
}

function readToken(token: string): number | boolean | undefined {
  // @std/toml takes an upper-case prefix, which TOML forbids.
  if (token.startsWith("0X")) return undefined;
  try {
    const { value } = parseScalar(`value = ${token}`);
    return typeof value === "number" || typeof value === "boolean" ? value : undefined;
  } catch {
    return undefined;
  }
}

function ownValue(table: TomlTable, name: string): TomlValue | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** Keys and paths always have at least one name. */
function lastOf(names: readonly string[]): string {
  return names.at(-1) ?? "";
}
