import type { NatsConnection } from "@nats-io/nats-core";
import { connectNats } from "../src/adapters/nats/connect.ts";
import { connectionPlan } from "../src/adapters/nats/plan.ts";

const TIMEOUT_MS = 10_000;

/** A connection as a store opens one that is given these servers, separated by commas. */
export function connectTo(url: string): Promise<NatsConnection> {
  const plan = connectionPlan({ url })!; // it has a URL
  return connectNats(plan, TIMEOUT_MS);
}
