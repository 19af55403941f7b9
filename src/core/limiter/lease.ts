import { RateLimiterError } from "../errors.ts";
import type { Permit } from "./result.ts";

/** A lease as the holder of the permit sees it. */
export interface Lease {
  readonly lost: boolean;
  readonly signal: AbortSignal;
  readonly release: () => Promise<void>;
}

/** The lease of a request that holds nothing: there is nothing to lose or to release. */
export const NO_LEASE: Lease = {
  lost: false,
  get signal() {
    // A new one for each caller: its listeners go with it.
    return new AbortController().signal;
  },
  release: () => Promise.resolve(),
};

/** A lease as the side that granted it sees it. */
export interface LosableLease extends Lease {
  /** The lease has ended without having been released. `why` says how, in a sentence, if it has not simply run out. */
  lose(why?: string): void;
}

/**
 * A {@link Permit} on a lease. A class, because every acquisition makes one, and an object with its own accessors costs
 * as much as the rest of the acquisition.
 */
export class LeasedPermit implements Permit {
  readonly release: () => Promise<void>;
  readonly #lease: Lease;

  constructor(readonly limiterId: string, readonly waitedMs: number, readonly degraded: boolean, lease: Lease) {
    this.#lease = lease;
    this.release = lease.release;
  }

  get lost(): boolean {
    return this.#lease.lost;
  }

  get signal(): AbortSignal {
    return this.#lease.signal;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** What happens at the end of a lease. */
export interface LeaseEnd {
  /** Called before the holder is told that it still has the permit. Loses the lease if it has run out by now. */
  check(): void;
  /** Called once, at the first release. */
  release(): Promise<void>;
  /** Called once, if it is lost before it is released. */
  lost(): void;
}

/** A lease on a permit of the limiter `limiterId`. */
export function createLease(limiterId: string, leaseMs: number, end: LeaseEnd): LosableLease {
  // Most holders never ask for the signal.
  let controller: AbortController | undefined;
  let lost = false;
  let released: Promise<void> | undefined;
  let how: string | undefined;
  const ranOut = () =>
    `its lease of ${
      leaseMs / 1_000
    } s ran out before it was renewed, as this process was paused or cut off from the store.`;
  const reason = () =>
    new RateLimiterError(
      `The permit of limiter '${limiterId}' was lost: ${how ?? ranOut()} Somebody else may hold it now.`,
    );
  /** The timer that reports the end of the lease cannot fire while the holder computes. */
  const isLost = () => {
    if (!lost && !released) end.check();
    return lost;
  };
  return {
    get lost() {
      return isLost();
    },
    get signal() {
      controller ??= new AbortController();
      if (isLost() && !controller.signal.aborted) controller.abort(reason());
      return controller.signal;
    },
    release() {
      if (lost) return Promise.resolve();
      return released ??= end.release();
    },
    lose(why) {
      if (lost || released) return;
      lost = true;
      how = why;
      end.lost();
      controller?.abort(reason());
    },
  };
}
