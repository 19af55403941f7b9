import type { Clock } from "../../src/core/clock.ts";
import type { Kv } from "../../src/core/store/kv.ts";

/** A Kv that is never called: configuration only looks at whether its methods are there. */
export const kvStub: Kv = {
  get: () => Promise.resolve(null),
  compareAndSet: () => Promise.resolve({ ok: false }),
  delete: () => Promise.resolve(),
  keys: async function* () {},
};

/** A clock that stands still. */
export const clockStub: Clock = { now: () => 0, sleep: () => Promise.resolve() };

/** The methods by which a NatsConnection is recognised. */
export const connectionStub = {
  isClosed: () => false,
  closed: () => Promise.resolve(),
  getServer: () => "nats.example.com:4222",
};
