import type { NatsStoreOptions } from "../adapters/nats/options.ts";
import { ConfigValidationError } from "../core/errors.ts";
import { hasMethods, methodsNamed, missingMethods } from "../core/arguments.ts";
import { BOUNDS } from "../core/limiter/defaults.ts";
import {
  choice,
  duration,
  type Field,
  type Fields,
  flag,
  nameIn,
  number,
  path,
  readFields,
  text,
  textLike,
  type Values,
} from "./fields.ts";
import { nearestName, suggestion } from "./names.ts";
import { connectionPlan } from "./nats_plan.ts";
import type { CustomStoreOptions, StoreOptions } from "./options.ts";
import { hasUserinfo } from "./secrets.ts";
import {
  checkId,
  describe,
  refuse,
  refuseConflict,
  refuseMissing,
  refuseValue,
  type Section,
  sectionInCode,
  shownName,
} from "./section.ts";

type NatsStore = Extract<StoreOptions, { readonly engine: "nats" }>;

const ENGINES = ["memory", "nats"] as const;

const engine: Field<(typeof ENGINES)[number]> = { toml: "engine", read: choice(...ENGINES) };
const replace: Field<boolean> = { toml: undefined, read: flag() };

/** The server takes no shorter time to live. */
const LEAST_BUCKET_TTL_MS = 100;
/** The server counts nanoseconds in 64 bits, which is not much longer than this. */
const LONGEST_BUCKET_TTL_MS = 100 * 365 * 86_400_000;
const readBucketTtl = duration({ from: 0, to: LONGEST_BUCKET_TTL_MS });

const bucketTtl: Field<number>["read"] = (value, place) => {
  const ms = readBucketTtl(value, place);
  const demand = "0 for no end, or at least a tenth of a second";
  if (ms > 0 && ms < LEAST_BUCKET_TTL_MS) throw refuseValue(place, value, demand, demand);
  return ms;
};

const BREAKER_FIELDS = {
  breakerFailures: { toml: "breaker_failures", read: number({ integer: true, from: 0 }) },
  breakerCoolDownMs: { toml: "breaker_cool_down", read: duration({ above: 0 }) },
  breakerMaxCoolDownMs: { toml: "breaker_max_cool_down", read: duration({ above: 0 }) },
} satisfies Fields;

const MEMORY_FIELDS = { engine, replace } satisfies Fields;

const NATS_FIELDS = {
  engine,
  replace,
  connection: {
    toml: undefined,
    read: objectWith<NonNullable<NatsStoreOptions["connection"]>>("isClosed", "closed", "getServer"),
  },
  url: { toml: "url", emptyIsAbsent: true, read: text("") },
  token: { toml: "token", emptyIsAbsent: true, read: text() },
  user: { toml: "user", emptyIsAbsent: true, read: text() },
  password: { toml: "password", emptyIsAbsent: true, read: text() },
  credentialsFile: { toml: "credentials_file", emptyIsAbsent: true, read: path() },
  nkeySeedFile: { toml: "nkey_seed_file", emptyIsAbsent: true, read: path() },
  tlsCaFile: { toml: "tls_ca_file", emptyIsAbsent: true, read: path() },
  tlsCertFile: { toml: "tls_cert_file", emptyIsAbsent: true, read: path() },
  tlsKeyFile: { toml: "tls_key_file", emptyIsAbsent: true, read: path() },
  bucketName: {
    toml: "bucket_name",
    read: textLike(/^[A-Za-z0-9_-]{1,240}$/, "made of at most 240 letters, digits, '_' and '-' only"),
  },
  domain: {
    toml: "domain",
    emptyIsAbsent: true,
    read: textLike(/^[A-Za-z0-9_-]{1,240}$/, "made of letters, digits, '_' and '-' only"),
  },
  partitions: { toml: "partitions", read: number({ integer: true, from: 1, to: 64 }) },
  autoCreate: { toml: "auto_create", read: flag() },
  replicas: { toml: "replicas", read: number({ integer: true, from: 1, to: 5 }) },
  storage: { toml: "storage", read: choice("file", "memory") },
  bucketTtlMs: { toml: "bucket_ttl", read: bucketTtl },
  retryIntervalMs: { toml: "retry_interval", read: duration({ above: 0 }) },
  maxRetries: { toml: "max_retries", read: number({ integer: true, from: 1 }) },
  // The only duration that is in milliseconds in TOML too: its name says so, as in upstream.
  timingMarginMs: { toml: "timing_margin_ms", read: number({ from: 0, to: Number.MAX_SAFE_INTEGER }) },
  backendTimeoutMs: { toml: "backend_timeout", read: duration({ above: 0, to: BOUNDS.longestTimeoutMs }) },
  clock: { toml: "clock", read: choice("server", "local") },
  ...BREAKER_FIELDS,
} satisfies Fields;

const CUSTOM_FIELDS = {
  replace,
  kv: { toml: undefined, read: objectWith<CustomStoreOptions["kv"]>("get", "compareAndSet", "delete", "keys") },
  clock: { toml: undefined, read: objectWith<NonNullable<CustomStoreOptions["clock"]>>("now", "sleep") },
  peers: { toml: undefined, read: objectWith<NonNullable<CustomStoreOptions["peers"]>>("serve", "ask") },
  ...BREAKER_FIELDS,
} satisfies Fields;

const CONNECTING = [
  "url",
  "token",
  "user",
  "password",
  "credentialsFile",
  "nkeySeedFile",
  "tlsCaFile",
  "tlsCertFile",
  "tlsKeyFile",
] as const satisfies readonly (keyof typeof NATS_FIELDS)[];

/**
 * Checks a store's options that were given in code.
 *
 * @param id The id of the store.
 * @param options What `configureStore` was given; untyped code may pass anything.
 * @returns The options, without those that are `undefined`.
 * @throws {ConfigValidationError} If the id or an option is wrong, not known, missing, or contradicts another.
 */
export function checkStoreOptions(id: string, options: unknown): StoreOptions {
  return readStore(sectionOf(id, '{ engine: "memory" }', options));
}

/** Like {@link checkStoreOptions}, for a store that is known to be on NATS. */
export function checkNatsOptions(id: string, options: unknown): NatsStoreOptions {
  return readNatsStore(sectionOf(id, '{ url: "nats://localhost:4222" }', options));
}

function sectionOf(id: string, example: string, options: unknown): Section {
  checkId(id, "stores");
  return sectionInCode({ path: `stores.${id}`, title: `Failed to configure store '${id}'`, example }, options);
}

/**
 * Reads a `[stores.<id>]` table.
 *
 * @throws {ConfigValidationError} If an option is wrong, not known, missing, or contradicts another.
 */
export function readStore(section: Section): StoreOptions {
  const engineGiven = ownValue(section.values, "engine");
  const isCustom = section.dialect === "code" && engineGiven === undefined &&
    ownValue(section.values, "kv") !== undefined;
  if (isCustom) return readCustomStore(section);
  if (engineGiven === undefined) {
    const typo = Object.keys(section.values).find((key) => nearestName(key, ["engine"]) !== undefined);
    throw refuseMissing(
      section,
      "engine",
      `Missing required field 'engine'.${
        typo === undefined ? "" : ` Is '${shownName(section, typo)}' meant to be it?`
      }`,
      `engine name, one of ${ENGINES.join(", ")}`,
    );
  }
  const engineName = ENGINES.find((each) => each === engineGiven);
  if (engineName === undefined) throw refuseEngine(section, engineGiven);
  return engineName === "memory" ? readMemoryStore(section) : readNatsStore(section);
}

function readCustomStore(section: Section): StoreOptions {
  const { engine: _absent, ...values } = { engine: undefined, ...section.values };
  const { kv, ...rest } = readFields(CUSTOM_FIELDS, { ...section, values });
  if (kv === undefined) {
    throw refuseMissing(section, "kv", "Missing required field 'kv'.", "an object that implements Kv");
  }
  checkBreaker(section, rest);
  return { kv, ...rest };
}

function readMemoryStore(section: Section): StoreOptions {
  const natsFields = Object.entries<Field<unknown>>(NATS_FIELDS);
  const natsNames = new Map(natsFields.map(([codeName, field]) => [nameIn(section, NATS_FIELDS, codeName), field]));
  const values = readFields(MEMORY_FIELDS, section, (key, value) => {
    const field = natsNames.get(key);
    if (field === undefined) return undefined;
    // url = "${RATE_LIMIT_URL:-}" beside engine = "${RATE_LIMIT_ENGINE:-memory}" is how upstream switches engines.
    if (section.dialect === "toml" && field.emptyIsAbsent === true && value === "") return "ignore";
    return "It belongs to the engine 'nats', and this store has the engine 'memory', which takes no options.";
  });
  return { ...values, engine: "memory" };
}

function readNatsStore(section: Section): NatsStore {
  const values = readFields(NATS_FIELDS, section);
  const name = (codeName: keyof typeof NATS_FIELDS) => nameIn(section, NATS_FIELDS, codeName);
  if (values.connection !== undefined) {
    const contradicting = CONNECTING.find((codeName) => values[codeName] !== undefined);
    if (contradicting !== undefined) {
      throw refuseConflict(
        section,
        name(contradicting),
        `Cannot use '${contradicting}' together with 'connection', which is connected already.`,
      );
    }
  } else if (values.url === undefined) {
    const orConnection = section.dialect === "code" ? " Give a 'url', or a 'connection' that is open." : "";
    throw refuseMissing(
      section,
      "url",
      `Missing required field 'url' for engine 'nats'.${orConnection}`,
      "a URL such as nats://localhost:4222",
    );
  }
  checkCredentials(section, values);
  if ((values.tlsCertFile === undefined) !== (values.tlsKeyFile === undefined)) {
    throw pairBroken(section, values.tlsCertFile === undefined, name("tlsCertFile"), name("tlsKeyFile"));
  }
  checkBreaker(section, values);
  const checked: object = { ...values, engine: "nats" };
  const options = checked as NatsStore; // the checks above leave only the combinations that the type lists
  checkPlan(section, options);
  return options;
}

/** Checks the URL, and whether it can be used with the other options. */
function checkPlan(section: Section, options: NatsStoreOptions): void {
  try {
    connectionPlan(options, (option) => nameIn(section, NATS_FIELDS, option));
  } catch (error) {
    if (!(error instanceof ConfigValidationError)) throw error;
    const { problem, field, expected, received } = error;
    const isVariable = section.variablesIn(section.values, field).length > 0;
    throw refuse(section, problem, {
      field: `${section.path}.${field}`,
      expected,
      received: isVariable ? describe(undefined, field, section) : received,
    });
  }
}

function checkBreaker(section: Section, values: Values<typeof BREAKER_FIELDS>): void {
  const { breakerCoolDownMs: first, breakerMaxCoolDownMs: longest } = values;
  if (first === undefined || longest === undefined || first <= longest) return;
  const key = nameIn(section, BREAKER_FIELDS, "breakerMaxCoolDownMs");
  const other = nameIn(section, BREAKER_FIELDS, "breakerCoolDownMs");
  const demand = `not less than '${other}'`;
  throw refuseValue({ section, key }, Reflect.get(section.values, key), demand, `a duration that is ${demand}`);
}

function checkCredentials(section: Section, values: Values<typeof NATS_FIELDS>): void {
  const name = (codeName: keyof typeof NATS_FIELDS) => nameIn(section, NATS_FIELDS, codeName);
  if ((values.user === undefined) !== (values.password === undefined)) {
    throw pairBroken(section, values.user === undefined, name("user"), name("password"));
  }
  const kinds = (["token", "user", "credentialsFile", "nkeySeedFile"] as const).filter((key) =>
    values[key] !== undefined
  );
  const given = [
    ...(values.url !== undefined && hasUserinfo(values.url) ? ["the credentials in 'url'"] : []),
    ...kinds.map((codeName) => `'${name(codeName)}'`),
  ];
  const last = kinds.at(-1);
  if (given.length > 1 && last !== undefined) {
    throw refuseConflict(
      section,
      name(last),
      `Cannot use ${given.join(" together with ")}: give one kind of credentials.`,
    );
  }
}

function pairBroken(section: Section, firstIsMissing: boolean, first: string, second: string): Error {
  const [missing, present] = firstIsMissing ? [first, second] : [second, first];
  return refuseMissing(
    section,
    missing,
    `'${present}' needs '${missing}' as well. Give both or neither.`,
    `'${first}' and '${second}' together`,
  );
}

function refuseEngine(section: Section, given: unknown): Error {
  const key = "engine";
  const received = describe(given, key, section);
  const isPlain = typeof given === "string" && section.variablesIn(section.values, key).length === 0;
  const shown = isPlain ? `'${received.slice(1, -1)}'` : received;
  const known = ENGINES.join(", ");
  const hint = isPlain ? suggestion(given, ENGINES) : "";
  return refuse(section, `Unknown engine ${shown}. Available engines: ${known}.${hint}`, {
    field: `${section.path}.${key}`,
    expected: `one of ${known}`,
    received,
  });
}

/** Reads an object, which it recognises by its methods. */
function objectWith<T extends object>(...methods: readonly (keyof T & string)[]): Field<T>["read"] {
  return (value, place) => {
    // The methods that this package calls are all that the type means here.
    if (hasMethods(value, ...methods)) return value as T;
    const demand = `an object with ${methodsNamed(methods)}`;
    const missing = missingMethods(value, methods);
    throw refuseValue(place, value, demand, demand, missing && `It has no ${methodsNamed(missing)}.`);
  };
}

function ownValue(values: object, key: string): unknown {
  return Object.hasOwn(values, key) ? Reflect.get(values, key) : undefined;
}
