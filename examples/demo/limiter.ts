import process from "node:process";
import { fileURLToPath } from "node:url";
import { createRateSync, type Limiter, type Logger, type RateSync } from "../../mod.ts";
import type { Promised } from "./judge.ts";
import type { DemoOptions } from "./options.ts";

/** The limiter of the demo, and what to say about it. */
export interface DemoLimiter extends AsyncDisposable {
  readonly limiter: Limiter;
  readonly promised: Promised;
  /** Where the limit is kept: a URL without secrets, or `memory`. */
  readonly store: string;
}

export const CONFIGURATION = "rate-sync.toml";

/** The file does not configure a limiter that the demo can show. */
export class UnsuitableLimiter extends Error {
  override name = "UnsuitableLimiter";
}

/** What a {@link DemoLimiter} is made from. */
export interface LoadOptions {
  readonly options: DemoOptions;
  /** The name of the run. Each run has its own limit, in which nothing is left of an earlier one. */
  readonly run: string;
  readonly onWarning: (text: string) => void;
}

/**
 * Loads the configuration file and takes the right limiter from it. Opens nothing.
 *
 * @throws {ConfigValidationError} if anything in the file, or the URL, is wrong.
 */
export async function loadLimiter({ options, run, onWarning }: LoadOptions): Promise<DemoLimiter> {
  // The file refers to this variable, so the file really decides, as in any other program.
  if (options.url !== undefined) process.env.NATS_URL = options.url;
  const rateSync = createRateSync({ logger: loggerTo(onWarning) });
  await rateSync.loadConfig(fileURLToPath(new URL(`../${CONFIGURATION}`, import.meta.url)));
  const id = options.url === undefined ? "demo" : "demo-shared";
  replaceLimit(rateSync, id, options);
  const limiter = rateSync.getLimiter(id);
  const { ratePerSecond, burst, storeId } = limiter.getConfig();
  if (ratePerSecond === null) {
    throw new UnsuitableLimiter(`The demo needs a limiter with rate_per_second; '${id}' in ${CONFIGURATION} has none.`);
  }
  const store = rateSync.listStores()[storeId];
  return {
    limiter: limiter.key(run),
    promised: { ratePerSecond, burst },
    store: String(store?.url ?? store?.engine ?? storeId),
    [Symbol.asyncDispose]: () => rateSync.close(),
  };
}

function replaceLimit(rateSync: RateSync, id: string, { rate, burst }: DemoOptions): void {
  if (rate === undefined && burst === undefined) return;
  const ofFile = rateSync.getLimiter(id).getConfig();
  const ratePerSecond = rate ?? ofFile.ratePerSecond;
  if (ratePerSecond === null) return; // getting the limiter afterwards says what is wrong with it
  rateSync.configureLimiter(id, {
    store: ofFile.storeId,
    ratePerSecond,
    burst: burst ?? ofFile.burst,
    failClosed: ofFile.failClosed,
    replace: true,
  });
}

function loggerTo(onWarning: (text: string) => void): Logger {
  const nothing = () => {};
  return { debug: nothing, info: nothing, warn: onWarning, error: onWarning };
}
