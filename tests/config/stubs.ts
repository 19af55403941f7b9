import type { Kv } from "../../src/core/kv.ts";

/** A Kv that is never called: configuration only looks at whether its methods are there. */
export const kvStub: Kv = {
  get: () => Promise.resolve(null),
  compareAndSet: () => Promise.resolve({ ok: false }),
  delete: () => Promise.resolve(),
  keys: async function* () {},
};
