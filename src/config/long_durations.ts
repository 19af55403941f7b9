import type { LimiterOptions, StoreOptions } from "./options.ts";
import type { Section } from "./section.ts";

/** The durations of a file, and from when on one was more likely meant in milliseconds, which code has them in. */
const LONGEST_USUAL_MS = [
  { toml: "backend_timeout", code: "backendTimeoutMs", ms: 60_000 },
  { toml: "retry_interval", code: "retryIntervalMs", ms: 10_000 },
  { toml: "breaker_cool_down", code: "breakerCoolDownMs", ms: 60_000 },
  { toml: "breaker_max_cool_down", code: "breakerMaxCoolDownMs", ms: 600_000 },
  { toml: "reserve_ahead", code: "reserveAheadMs", ms: 600_000 },
  { toml: "lease", code: "leaseMs", ms: 3_600_000 },
  { toml: "timeout", code: "timeoutMs", ms: 3_600_000 },
] as const;

/** What to say about durations that are longer than usual, in sentences. `options` is what the table was read as. */
export function warningsAbout(section: Section, options: StoreOptions | LimiterOptions): string[] {
  return LONGEST_USUAL_MS.flatMap(({ toml, code, ms: longest }) => {
    const ms: unknown = Reflect.get(options, code);
    return typeof ms === "number" && ms > longest ? [warning(section, toml, ms, longest)] : [];
  });
}

function warning(section: Section, key: string, ms: number, longestMs: number): string {
  const { path, file = "The configuration" } = section;
  const variables = section.variablesIn(section.values, key).map((name) => `\${${name}}`);
  const [length, meant] = variables.length === 0
    ? [`${ms / 1_000} seconds`, `${ms / 1_000_000}`]
    : [`more than ${longestMs / 1_000} seconds, from ${variables.join(" and ")}`, "a thousandth of that"];
  return `${file}: ${path}.${key} is ${length}; did you mean ${meant}? Durations in TOML are in seconds.`;
}
