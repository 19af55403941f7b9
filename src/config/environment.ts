import { checkOptions, namesOf, wrongArgument } from "../core/arguments.ts";
import { ConfigValidationError } from "../core/errors.ts";
import { isTable, type TomlTable, type TomlValue } from "./toml.ts";

/**
 * Looks up an environment variable; `undefined` if it is not set.
 *
 * @example The bindings of a worker
 * ```ts
 * import type { EnvironmentLookup } from "@ratesync/core/config";
 *
 * const bindings: Record<string, string> = { RATE: "100" };
 * const environment: EnvironmentLookup = (name) => bindings[name];
 * console.log(environment("RATE")); // "100"
 * ```
 */
export type EnvironmentLookup = (name: string) => string | undefined;

/**
 * A document whose references to environment variables have been replaced.
 *
 * @example
 * ```ts
 * import { type ExpandedDocument, expandEnvironment, parseToml } from "@ratesync/core/config";
 *
 * const document: ExpandedDocument = expandEnvironment(parseToml('a = "$SECRET"'), { environment: () => "x" });
 * console.log(document.root["a"], document.variablesIn(document.root, "a")); // "x" ["SECRET"]
 * ```
 */
export interface ExpandedDocument {
  /** The document. */
  readonly root: TomlTable;
  /**
   * The environment variables that the value at `key` of a table or array of {@link ExpandedDocument.root} was made
   * from. If there are any, the value may be a secret, and no message may show it.
   */
  variablesIn(container: TomlTable | readonly TomlValue[], key: string | number): readonly string[];
  /** The name of a table as written in the document, if variables changed it. */
  writtenName(container: object, name: string): string;
}

const MAXIMUM_DEPTH = 16;

const NAMES = namesOf<Parameters<typeof expandEnvironment>[1]>({ environment: true, file: true });

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;

/**
 * Replaces `${NAME}`, `$NAME` and `${NAME:-default}` in all strings of a document, and in the names of its tables. `$$`
 * is a literal `$`. The default is used if the variable is unset or empty; it may itself contain references, but no
 * other `}`. A `$` that is not followed by a name, `{` or `$` stays as it is, as in a shell, so that a password with
 * such a `$` keeps working. The value of a variable is taken literally: a `$` in it has no meaning.
 *
 * @throws {ConfigValidationError} If a variable without a default is not set, a `${` is not closed or holds no name, or
 * the names of two tables become the same.
 * @throws {InvalidArgumentError} If the options are wrong.
 *
 * @example
 * ```ts
 * import { expandEnvironment, parseToml } from "@ratesync/core/config";
 *
 * const { root } = expandEnvironment(parseToml('url = "nats://${HOST:-localhost}:4222"'), { environment: () => undefined });
 * console.log(root["url"]); // "nats://localhost:4222"
 * ```
 */
export function expandEnvironment(
  root: TomlTable,
  options: { readonly environment: EnvironmentLookup; readonly file?: string | undefined },
): ExpandedDocument {
  const { environment, file } = checkOptions(options, NAMES, "an object with environment");
  checkLookup(environment);
  const origins = new Map<object, Map<string, readonly string[]>>();
  const names = new Map<object, Map<string, string>>();
  const context = { environment, file };

  function expandTable(table: TomlTable, path: string): TomlTable {
    const expanded: TomlTable = Object.create(null);
    const writtenAs = new Map<string, string>();
    names.set(expanded, writtenAs);
    for (const [writtenName, value] of Object.entries(table)) {
      const writtenPath = path === "" ? writtenName : `${path}.${writtenName}`;
      const name = holdsTables(value) ? expandText(writtenName, writtenPath, context).text : writtenName;
      const earlier = writtenAs.get(name);
      if (earlier !== undefined) {
        throw refuse(
          `The names '${earlier}' and '${writtenName}' become the same. Two tables cannot have the same name.`,
          { field: writtenPath, expected: "a name of its own", received: "the same name" },
          file,
        );
      }
      writtenAs.set(name, writtenName);
      expanded[name] = expandValue(value, writtenPath, expanded, name);
    }
    return expanded;
  }

  function expandValue(value: TomlValue, path: string, container: object, key: string): TomlValue {
    if (typeof value === "string") {
      const { text, variables } = expandText(value, path, context);
      if (variables.length > 0) origins.set(container, (origins.get(container) ?? new Map()).set(key, variables));
      return text;
    }
    if (Array.isArray(value)) {
      const expanded: TomlValue[] = [];
      for (const [index, item] of value.entries()) {
        expanded.push(expandValue(item, `${path}[${index}]`, expanded, String(index)));
      }
      return expanded;
    }
    return isTable(value) ? expandTable(value, path) : value;
  }

  return {
    root: expandTable(root, ""),
    variablesIn: (container, key) => origins.get(container)?.get(String(key)) ?? [],
    writtenName: (container, name) => names.get(container)?.get(name) ?? name,
  };
}

function holdsTables(value: TomlValue): boolean {
  return isTable(value) || (Array.isArray(value) && value.length > 0 && value.every(isTable));
}

interface ExpansionContext {
  readonly environment: EnvironmentLookup;
  readonly file: string | undefined;
}

/** `field` is the path of the text, for errors, which never show the text itself. */
function expandText(
  source: string,
  field: string,
  { environment, file }: ExpansionContext,
): { readonly text: string; readonly variables: readonly string[] } {
  const variables = new Set<string>();
  let position = 0;
  let depth = 0;
  const text = expandUntilEnd(false, true);
  return { text, variables: [...variables] };

  /**
   * A part that is not `live` is a default that is not needed: its syntax is checked, but its variables are not looked
   * up.
   */
  function expandUntilEnd(inBraces: boolean, live: boolean): string {
    let expanded = "";
    while (position < source.length) {
      const character = source.charAt(position);
      if (inBraces && character === "}") return expanded;
      position += 1;
      expanded += character === "$" ? expandReference(live) : character;
    }
    return expanded;
  }

  function expandReference(live: boolean): string {
    if (take("$")) return "$";
    if (take("{")) return expandBraces(live);
    const name = readName();
    return name === "" ? "$" : lookUp(name, live, undefined);
  }

  function expandBraces(live: boolean): string {
    const name = readName();
    if (name !== "" && take("}")) return lookUp(name, live, undefined);
    if (position >= source.length) throw unclosed();
    if (name === "" || !take(":-")) {
      throw refuse(
        `'${field}' has a '\${' that no variable's name follows. Write \${NAME} or \${NAME:-default}, and $$ for a '$' itself.`,
        { field, expected: "${NAME} or ${NAME:-default}", received: "something else in ${…}" },
        file,
      );
    }
    if (depth === MAXIMUM_DEPTH) {
      throw refuse(
        `'${field}' has defaults within defaults, more than ${MAXIMUM_DEPTH} deep.`,
        { field, expected: `at most ${MAXIMUM_DEPTH} defaults within each other`, received: "more" },
        file,
      );
    }
    depth += 1;
    const isNeeded = live && !valueOf(name);
    const fallback = expandUntilEnd(true, isNeeded);
    depth -= 1;
    if (!take("}")) throw unclosed();
    return lookUp(name, live, fallback);
  }

  function lookUp(name: string, live: boolean, fallback: string | undefined): string {
    if (!live) return "";
    variables.add(name);
    const value = valueOf(name);
    if (fallback !== undefined && !value) return fallback;
    if (value !== undefined) return value;
    throw refuse(
      `'${field}' needs the environment variable ${name}, which is not set. Set it, or write a default: \${${name}:-default}. A '$' itself is written $$.`,
      { field, expected: `the environment variable ${name} to be set`, received: "unset" },
      file,
    );
  }

  function valueOf(name: string): string | undefined {
    try {
      return environment(name);
    } catch (error) {
      if (!(error instanceof ConfigValidationError)) throw error;
      const { problem, expected, received } = error;
      throw refuse(`'${field}' needs an environment variable. ${problem}`, { field, expected, received }, file);
    }
  }

  function unclosed(): ConfigValidationError {
    return refuse(
      `'${field}' has a '\${' without its '}'. Close it, or write $$ for a '$' itself.`,
      { field, expected: "'}' after '${'", received: "the end of the text" },
      file,
    );
  }

  function readName(): string {
    NAME.lastIndex = position;
    const name = NAME.exec(source)?.[0] ?? "";
    position += name.length;
    return name;
  }

  function take(expected: string): boolean {
    if (!source.startsWith(expected, position)) return false;
    position += expected.length;
    return true;
  }
}

function refuse(
  message: string,
  mismatch: { readonly field: string; readonly expected: string; readonly received: string },
  file: string | undefined,
): ConfigValidationError {
  return new ConfigValidationError(message, { ...mismatch, file });
}

function checkLookup(environment: unknown): void {
  if (typeof environment === "function") return;
  const expected = "a function that returns the value of the variable with a name, or undefined";
  throw wrongArgument("Nothing looks up environment variables", "environment", expected, environment);
}
