import type { NatsStoreOptions } from "../adapters/nats/options.ts";
import { createNatsStore, type NatsStore, type NatsStoreContext } from "../adapters/nats/store.ts";
import { connectionPlan } from "../config/nats_plan.ts";
import { checkNatsOptions } from "../config/stores.ts";
import { checkMethods, checkOptions, namesOf } from "../core/arguments.ts";
import { neverThrowing } from "../core/logger.ts";

/**
 * A store on a NATS JetStream Key-Value bucket. It connects on first use: creating one only checks the options.
 *
 * @throws {ConfigValidationError} if an option is missing, wrong or unknown, or if two of them contradict each other.
 * @throws {InvalidArgumentError} if the context has no logger, or its clock is not a clock.
 *
 * @example A store that is not opened yet
 * ```ts
 * import { natsStore } from "@ratesync/core";
 *
 * const store = natsStore(
 *   { url: "nats://localhost:4222", bucketName: "rate_limits", autoCreate: true },
 *   { id: "nats", logger: console },
 * );
 * console.log(store.isOpen); // false
 * ```
 */
export function natsStore(options: NatsStoreOptions, context: NatsStoreContext): NatsStore {
  const { id, logger, clock } = checkOptions(context, NAMES, "an object with id and logger");
  const checked = checkNatsOptions(id, options);
  checkMethods(logger, "logger", "logger", "info", "warn", "error");
  if (clock !== undefined) checkMethods(clock, "clock", "clock", "now", "sleep");
  return createNatsStore(checked, connectionPlan(checked), { ...context, logger: neverThrowing(logger) });
}

const NAMES = namesOf<NatsStoreContext>({ id: true, logger: true, clock: true });
