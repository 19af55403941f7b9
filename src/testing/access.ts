import { checkOptions, namesOf, wrongArgument } from "../core/arguments.ts";
import { accessTo, type RegistryAccess } from "../registry/access.ts";
import { defaultRegistry } from "../registry/default_registry.ts";
import type { RateSync } from "../registry/registry.ts";

/**
 * Which registry a function of this module works on.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 * import { resetAllLimiters, type RegistryOptions } from "@ratesync/core/testing";
 *
 * const options: RegistryOptions = { rateSync: createRateSync() };
 * await resetAllLimiters(options);
 * ```
 */
export interface RegistryOptions {
  /** The registry. The default is the one behind the functions of the module. */
  readonly rateSync?: RateSync | undefined;
}

const NAMES = namesOf<RegistryOptions>({ rateSync: true });

/** The access to the registry that is meant. `names`: the names of all allowed options. */
export function accessIn(options: RegistryOptions, names: ReadonlySet<string> = NAMES): RegistryAccess {
  const { rateSync = defaultRegistry } = checkOptions(options, names);
  const access = accessTo(rateSync);
  if (access) return access;
  throw wrongArgument("This is no registry", "rateSync", "what createRateSync() returned", rateSync);
}
