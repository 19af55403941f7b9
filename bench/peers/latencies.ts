/** How long many calls took, to within 1 %, in a fixed amount of memory. */
export interface Latencies {
  /** Counts a call that took `ms` milliseconds. */
  add(ms: number): void;
  /** The time that this part of all calls did not exceed; 0 without any call. */
  quantile(part: number): number;
}

const STEPS_PER_E = 100;
const LEAST_MS = 1e-5;
const STEPS = 2_400;

/** An empty collection of {@link Latencies}. */
export function createLatencies(): Latencies {
  const counts = new Uint32Array(STEPS);
  let total = 0;
  return {
    add(ms) {
      const step = Math.round(Math.log(Math.max(ms, LEAST_MS) / LEAST_MS) * STEPS_PER_E);
      counts[Math.min(step, STEPS - 1)]!++;
      total++;
    },
    quantile(part) {
      if (total === 0) return 0;
      let left = Math.max(1, Math.ceil(total * part));
      const step = counts.findIndex((count) => (left -= count) <= 0);
      return LEAST_MS * Math.exp(step / STEPS_PER_E);
    },
  };
}
