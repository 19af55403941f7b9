import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/logger.ts";
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

/** A logger, and the lines that it was given. */
export function recordingLogger(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const at = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  return { logger: { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") }, lines };
}
