import { createRateSync, type RateSync } from "./registry.ts";

/** The registry behind the functions of the module. Creating it reads no file and opens nothing. */
export const defaultRegistry: RateSync = createRateSync({ autoLoad: true });
