/** Which cases to try; what is absent is up to the test. */
export interface WantedCases {
  readonly numRuns?: number;
  readonly seed?: number;
  readonly path?: string;
}

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * What `FUZZ_RUNS`, `FUZZ_SEED` and `FUZZ_PATH` ask for.
 *
 * @throws if one of them makes no sense: no case would be tried, or not the one that was meant, and the tests would pass.
 */
export function wantedCases(variables: Variables): WantedCases {
  const runs = valueOf(variables, "FUZZ_RUNS", /^0*[1-9]\d*$/, "how many cases to try, 1 or more");
  const seed = valueOf(variables, "FUZZ_SEED", /^-?\d+$/, "an integer, as a failure prints it");
  const path = valueOf(variables, "FUZZ_PATH", /^\d+(:\d+)*$/, "numbers with ':' between, as a failure prints them");
  return {
    ...(runs !== undefined && { numRuns: Number(runs) }),
    ...(seed !== undefined && { seed: Number(seed) }),
    ...(path !== undefined && { path }),
  };
}

function valueOf(variables: Variables, name: string, pattern: RegExp, expected: string): string | undefined {
  const value = variables[name];
  if (value === undefined || pattern.test(value)) return value;
  throw new Error(`${name} must be ${expected}, and is '${value}'.`);
}
