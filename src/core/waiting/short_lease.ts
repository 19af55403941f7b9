/** A lease that is over before it can be renewed. */
export interface ShortLease {
  readonly leaseMs: number;
  /** How much earlier than others this process has to take it for over, in milliseconds. */
  readonly marginMs: number;
  /** How long an answer of the store takes. */
  readonly tripMs: number;
}

/** Ten times what is lost of it is enough to renew it in time. */
const AMPLE = 10;

/** What is wrong with the lease, and what to do, in sentences. */
export function describeLease({ leaseMs, marginMs, tripMs }: ShortLease): string {
  const enough = Math.ceil(AMPLE * (marginMs + tripMs));
  return `permits are lost before they are renewed: the lease of ${leaseMs} ms is too short where clocks and timers may ` +
    `be off by ${Math.ceil(marginMs)} ms, and the store takes ${Math.ceil(tripMs)} ms to answer. Allow at least ` +
    `${enough} ms with lease (leaseMs).`;
}
