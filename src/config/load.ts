import { checkOptions, namesOf } from "../core/arguments.ts";
import type { ConfigValidationError } from "../core/errors.ts";
import { type EnvironmentLookup, type ExpandedDocument, expandEnvironment } from "./environment.ts";
import { readLimiter } from "./limiters.ts";
import { warningsAbout } from "./long_durations.ts";
import { suggestion } from "./names.ts";
import { isNetwork } from "./networks.ts";
import type { LimiterOptions, StoreOptions } from "./options.ts";
import { checkId, describe, refuse, refuseValue, type Section, shownName } from "./section.ts";
import { readStore } from "./stores.ts";
import { isTable, parseToml, type TomlTable, type TomlValue } from "./toml.ts";

/**
 * The contents of a configuration file, checked as a whole.
 *
 * @example
 * ```ts
 * import { type Configuration, parseConfiguration } from "@ratesync/core/config";
 *
 * const text = '[stores.main]\nengine = "memory"';
 * const configuration: Configuration = parseConfiguration(text, { environment: () => undefined });
 * console.log(configuration.stores.get("main")); // { engine: "memory" }
 * ```
 */
export interface Configuration {
  /** The stores by id. */
  readonly stores: ReadonlyMap<string, StoreOptions>;
  /** The limiters by id. Each names a store. */
  readonly limiters: ReadonlyMap<string, LimiterOptions>;
  /** The contents of `[http]`, which upstream calls `[fastapi]`. */
  readonly http: {
    /** The networks whose proxies are trusted. Absent: the defaults; empty: none are. */
    readonly trustedProxyNetworks?: readonly string[];
  };
  /** What is allowed and looks like a mistake, in sentences for a log: a duration that was meant in milliseconds. */
  readonly warnings: readonly string[];
}

/**
 * The options of {@link parseConfiguration}.
 *
 * @example
 * ```ts
 * import type { ParseConfigurationOptions } from "@ratesync/core/config";
 *
 * const bindings: Record<string, string> = { NATS_URL: "nats://localhost:4222" };
 * const options: ParseConfigurationOptions = { environment: (name) => bindings[name] };
 * console.log(options.environment("NATS_URL")); // "nats://localhost:4222"
 * ```
 */
export interface ParseConfigurationOptions {
  /** The path of the file, for error messages. */
  readonly file?: string | undefined;
  /** Looks up environment variables. */
  readonly environment: EnvironmentLookup;
  /** The stores that are configured already; limiters of the file may name them too. */
  readonly knownStores?: Iterable<string> | undefined;
}

const TOP_LEVEL = ["stores", "limiters", "http", "fastapi"] as const;

const NAMES = namesOf<ParseConfigurationOptions>({ file: true, environment: true, knownStores: true });

/**
 * Reads a whole `rate-sync.toml`. It is returned only if all of it is right.
 *
 * @throws {ConfigValidationError} If it is not TOML, or anything in it is wrong, not known, missing or contradictory.
 * @throws {InvalidArgumentError} If the text is no text, or the options are wrong.
 *
 * @example
 * ```ts
 * import { parseConfiguration } from "@ratesync/core/config";
 *
 * const text = `
 * [stores.main]
 * engine = "memory"
 * [limiters.api]
 * store = "main"
 * rate_per_second = "\${RATE:-100}"
 * `;
 * const { limiters } = parseConfiguration(text, { environment: () => undefined });
 * console.log(limiters.get("api")); // { store: "main", ratePerSecond: 100 }
 * ```
 */
export function parseConfiguration(text: string, options: ParseConfigurationOptions): Configuration {
  const { file, environment, knownStores = [] } = checkOptions(options, NAMES, "an object with environment");
  const document = expandEnvironment(parseToml(text, file), { environment, file });
  const root = sectionOf(document, document.root, { path: "", title: "Configuration" }, file);
  for (const key of Object.keys(document.root)) {
    if (!TOP_LEVEL.some((known) => known === key)) throw refuseTopLevel(root, key);
  }

  const warnings: string[] = [];
  const stores = new Map<string, StoreOptions>();
  for (const [id, table] of tablesIn(root, "stores")) {
    const place = { path: `stores.${id}`, title: `Failed to configure store '${id}'` };
    const section = sectionOf(document, table, place, file);
    const store = readStore(section);
    warnings.push(...warningsAbout(section, store));
    stores.set(id, store);
  }

  const storeIds = new Set([...stores.keys(), ...knownStores]);
  const limiters = new Map<string, LimiterOptions>();
  for (const [id, table] of tablesIn(root, "limiters")) {
    const section = sectionOf(document, table, { path: `limiters.${id}`, title: `Limiter '${id}'` }, file);
    const limiter = readLimiter(section);
    if (limiter.store === undefined || !storeIds.has(limiter.store)) throw refuseStore(section, storeIds);
    warnings.push(...warningsAbout(section, limiter));
    limiters.set(id, limiter);
  }

  return { stores, limiters, http: readHttp(root, document), warnings };
}

function sectionOf(
  document: ExpandedDocument,
  values: TomlTable,
  { path, title }: { readonly path: string; readonly title: string },
  file: string | undefined,
): Section {
  const { variablesIn, writtenName } = document;
  return { path, title, dialect: "toml", file, values, variablesIn, writtenName };
}

function refuseTopLevel(root: Section, key: string): ConfigValidationError {
  const name = shownName(root, key);
  return refuse(root, `Unknown table or key '${name}'.${suggestion(key, TOP_LEVEL)}`, {
    field: name,
    expected: `one of ${TOP_LEVEL.join(", ")}`,
    received: `unknown name '${name}'`,
  });
}

function tablesIn(root: Section, name: "stores" | "limiters"): [id: string, table: TomlTable][] {
  const section = tableOf(root, name);
  if (section === undefined) return [];
  return Object.entries(section).map(([id, table]) => {
    checkId(id, name, root.file);
    if (isTable(table)) return [id, table];
    const received = describe(table, id, { ...root, values: section });
    throw refuse(root, `${name}.${id} must be a table, got ${received}. Write [${name}.${id}] and its options below.`, {
      field: `${name}.${id}`,
      expected: "a table",
      received,
    });
  });
}

function tableOf(root: Section, name: (typeof TOP_LEVEL)[number]): TomlTable | undefined {
  const value = ownValue(root.values, name);
  if (value === undefined || isTable(value)) return value;
  const received = describe(value, name, root);
  throw refuse(root, `The ${name} section must be a table, got ${received}.`, {
    field: name,
    expected: "a table",
    received,
  });
}

function refuseStore(section: Section, known: ReadonlySet<string>): ConfigValidationError {
  const store = ownValue(section.values, "store");
  const received = describe(store, "store", section);
  const shown = typeof store === "string" && received === JSON.stringify(store) ? `'${store}'` : received;
  const ids = [...known];
  const hint = typeof store === "string" ? suggestion(store, ids) : "";
  return refuse(
    section,
    `It references unknown store ${shown}. Define [stores.<id>] in the same file, or configure the store in code before.${hint}`,
    {
      field: `${section.path}.store`,
      expected: ids.length === 0
        ? "a store of the file; it has none"
        : `one of ${ids.map((each) => `'${each}'`).join(", ")}`,
      received,
    },
  );
}

function readHttp(root: Section, document: ExpandedDocument): Configuration["http"] {
  const given = (["http", "fastapi"] as const).flatMap((name) => {
    const values = tableOf(root, name);
    return values === undefined ? [] : [{ name, values }];
  });
  const [first, second] = given;
  if (first === undefined) return {};
  if (second !== undefined) {
    throw refuse(root, "[http] and [fastapi] are the same table under two names. Keep one of the two.", {
      field: second.name,
      expected: "[http] or [fastapi]",
      received: "both",
    });
  }
  const { name, values } = first;
  const key = "trusted_proxy_networks";
  const section = sectionOf(document, values, { path: name, title: `[${name}]` }, root.file);
  for (const given of Object.keys(values)) {
    if (given === key) continue;
    throw refuse(section, `Unknown option '${shownName(section, given)}'.${suggestion(given, [key])}`, {
      field: `${name}.${shownName(section, given)}`,
      expected: `one of ${key}`,
      received: `unknown option '${shownName(section, given)}'`,
    });
  }
  const networks = ownValue(values, key);
  if (networks === undefined) return {};
  return { trustedProxyNetworks: readNetworks(networks, key, section) };
}

function readNetworks(networks: TomlValue, key: string, section: Section): readonly string[] {
  if (!Array.isArray(networks)) {
    throw refuseValue({ section, key }, networks, "a list of CIDR networks", "a list of CIDR networks");
  }
  return networks.map((network, index) => {
    if (typeof network === "string" && isNetwork(network)) return network;
    const received = describe(network, String(index), { ...section, values: networks });
    throw refuse(section, `${key}[${index}] must be a CIDR network such as 10.0.0.0/8, got ${received}.`, {
      field: `${section.path}.${key}[${index}]`,
      expected: "a CIDR network",
      received,
    });
  });
}

function ownValue(table: object, key: string): TomlValue | undefined {
  // Sections of this module contain only tables that parseToml made.
  return Object.hasOwn(table, key) ? (table as TomlTable)[key] : undefined;
}
