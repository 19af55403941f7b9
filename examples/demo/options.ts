import { parseArgs } from "node:util";

/** What the demo was asked to do. */
export interface DemoOptions {
  /** The NATS server whose limit is shared. Without one the limit is kept in memory. */
  readonly url: string | undefined;
  /** How many operating-system processes there are. */
  readonly processes: number;
  /** How many callers each process has. */
  readonly callers: number;
  /** How long they call. */
  readonly seconds: number;
  /** Replaces `rate_per_second` of the file. */
  readonly rate: number | undefined;
  /** Replaces `burst` of the file. */
  readonly burst: number | undefined;
  /** How long a caller that has a timeout waits, in seconds. */
  readonly timeout: number;
}

/** What a command line means. */
export type CommandLine =
  | { readonly kind: "run"; readonly options: DemoOptions }
  | { readonly kind: "help" }
  | { readonly kind: "invalid"; readonly message: string };

export const HELP = `Shows a rate limit at work: concurrent callers, a chart of what was admitted, and
whether the limit held.

  deno task demo [options]

Without options one process runs with the limiter 'demo' of examples/rate-sync.toml,
which keeps its limit in memory. With --url several operating-system processes share
the limiter 'demo-shared' through a NATS server.

Options
  --url <url>        a NATS server with JetStream, e.g. nats://localhost:4222
  --processes <n>    how many processes share the limit (with --url; default 4)
  --callers <n>      how many callers each process has (default 50)
  --seconds <n>      for how long they call (default 5)
  --rate <n>         admissions per second, instead of the file's
  --burst <n>        how many may come at once after a pause, instead of the file's
  --timeout <n>      how many seconds a caller with a timeout waits (default 0.25)
  --help             this text

Of every ten callers eight wait as long as it takes, one gives up after --timeout, and
one does not wait at all. NO_COLOR turns colours off; without a terminal the output is
plain lines.

Exit code: 0 if the limit held, 1 if it did not or nothing could be judged, 2 if an
option is wrong, 130 after Ctrl-C.
`;

const TEXT = { type: "string" } as const;

const OPTIONS = {
  url: TEXT,
  processes: TEXT,
  callers: TEXT,
  seconds: TEXT,
  rate: TEXT,
  burst: TEXT,
  timeout: TEXT,
  help: { type: "boolean", short: "h" },
} as const;

const KNOWN: readonly string[] = Object.keys(OPTIONS);

class InvalidOption extends Error {}

/** Reads the arguments of the demo. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  try {
    const values = readValues(args);
    return values.help === true ? { kind: "help" } : { kind: "run", options: readOptions(values) };
  } catch (error) {
    if (error instanceof InvalidOption) return { kind: "invalid", message: error.message };
    throw error;
  }
}

interface Values extends Readonly<Partial<Record<Exclude<keyof typeof OPTIONS, "help">, string>>> {
  readonly help?: boolean;
}

/** Reads the tokens by hand, because the messages of `parseArgs` are not the same on all runtimes. */
function readValues(args: readonly string[]): Values {
  const { values, tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const texts: Record<string, string> = {};
  for (const token of tokens) {
    if (token.kind === "positional") throw new InvalidOption(`'${token.value}' is not an option.`);
    if (token.kind !== "option" || token.name === "help") continue;
    if (!KNOWN.includes(token.name)) throw new InvalidOption(`${token.rawName} is not an option.`);
    if (token.value === undefined || token.value === "") throw new InvalidOption(`${token.rawName} needs a value.`);
    texts[token.name] = token.value;
  }
  return { ...texts, help: values.help === true };
}

function readOptions(values: Values): DemoOptions {
  const { url } = values;
  const processes = readNumber(values, "processes", { least: 1, most: 64, integer: true }) ??
    (url === undefined ? 1 : 4);
  if (url === undefined && processes > 1) {
    throw new InvalidOption("--processes needs --url: what is kept in memory belongs to one process.");
  }
  return {
    url,
    processes,
    callers: readNumber(values, "callers", { least: 1, most: 10_000, integer: true }) ?? 50,
    seconds: readNumber(values, "seconds", { least: 0.5, most: 3_600 }) ?? 5,
    rate: readNumber(values, "rate", { least: 0.1, most: 100_000 }),
    burst: readNumber(values, "burst", { least: 1, most: 100_000 }),
    timeout: readNumber(values, "timeout", { least: 0, most: 3_600 }) ?? 0.25,
  };
}

interface Bounds {
  readonly least: number;
  readonly most: number;
  readonly integer?: boolean;
}

function readNumber(
  values: Values,
  name: "processes" | "callers" | "seconds" | "rate" | "burst" | "timeout",
  { least, most, integer = false }: Bounds,
): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most && (!integer || Number.isInteger(value))) return value;
  const kind = integer ? "a whole number" : "a number";
  throw new InvalidOption(`--${name} must be ${kind} from ${least} to ${most}, got '${text}'.`);
}
