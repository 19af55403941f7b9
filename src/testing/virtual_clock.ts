import { wrongArgument } from "../core/arguments.ts";
import type { Clock } from "../core/clock.ts";
import { RateLimiterError } from "../core/errors.ts";

/**
 * A {@link Clock} that stands still until it is told to move. Then everything that sleeps on it wakes in order, exactly
 * at its time, however long that would really take.
 *
 * @example
 * ```ts
 * import { createVirtualClock } from "@ratesync/core/testing";
 *
 * const clock = createVirtualClock();
 * const woken = clock.sleep(3_600_000).then(() => "an hour later");
 * await clock.advance(3_600_000);
 * console.log(await woken); // "an hour later"
 * ```
 */
export interface VirtualClock extends Clock {
  /** Moves on by `ms` milliseconds, and lets everything that is due on the way happen. */
  advance(ms: number): Promise<void>;
  /**
   * Moves on from one sleeper to the next until `promise` is settled, and returns what it settles to. While nobody
   * sleeps, it waits for what is real, such as an answer from a server; if there is nothing, the test runner says that
   * the promise is still pending.
   *
   * @throws {RateLimiterError} if the promise is still pending after 1,000,000 sleepers and a day or more: what it waits
   * for never comes, such as a permit that nobody releases. {@link VirtualClock.advance} goes as far as you like.
   */
  runUntil<T>(promise: Promise<T>): Promise<T>;
  /** How many are asleep. */
  readonly sleepers: number;
}

interface Sleeper {
  readonly until: number;
  readonly order: number;
  wake(): void;
}

/** The start of the year 2030: a time that code under test cannot mistake for the real one. */
const START = Date.UTC(2030, 0, 1);

/** What {@link VirtualClock.runUntil} has gone through: how many sleepers, and how many milliseconds. */
interface Wait {
  readonly woken: number;
  readonly ms: number;
}

/**
 * Whether a promise that is still pending will stay so. Either alone would end waits that somebody may well want: for a
 * quota of a year, or for a hundred slots a second.
 */
export function isHopeless({ woken, ms }: Wait): boolean {
  return woken >= 1_000_000 && ms >= 86_400_000;
}

/**
 * A {@link VirtualClock} that starts at `start`, in milliseconds since the Unix epoch; by default at the start of 2030.
 */
export function createVirtualClock(start: number = START): VirtualClock {
  let now = checkTime(start, "start", Number.NEGATIVE_INFINITY);
  let order = 0;
  const sleepers = new Set<Sleeper>();
  /** Told once when somebody goes to sleep. */
  const watchers: (() => void)[] = [];

  function next(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const sleeper of sleepers) {
      const earlier = !first || sleeper.until < first.until ||
        (sleeper.until === first.until && sleeper.order < first.order);
      if (earlier) first = sleeper;
    }
    return first;
  }

  function wakeNext(sleeper: Sleeper): void {
    now = Math.max(now, sleeper.until);
    sleepers.delete(sleeper);
    sleeper.wake();
  }

  return {
    now: () => now,
    get sleepers() {
      return sleepers.size;
    },
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const sleeper: Sleeper = {
          until: now + Math.max(0, ms),
          order: order++,
          wake() {
            signal?.removeEventListener("abort", abort);
            resolve();
          },
        };
        function abort(): void {
          sleepers.delete(sleeper);
          reject(signal?.reason);
        }
        signal?.addEventListener("abort", abort);
        sleepers.add(sleeper);
        for (const told of watchers.splice(0)) told();
      });
    },
    async advance(ms) {
      const until = now + checkTime(ms, "ms", 0);
      await settle();
      for (let sleeper = next(); sleeper && sleeper.until <= until; sleeper = next()) {
        wakeNext(sleeper);
        await settle();
      }
      now = until;
    },
    async runUntil(promise) {
      const begun = now;
      let settled = false;
      const done = () => void (settled = true);
      const end = promise.then(done, done);
      let woken = 0;
      for (await settle(); !settled; await settle()) {
        const sleeper = next();
        if (!sleeper) {
          await Promise.race([end, new Promise<void>((resolve) => watchers.push(resolve))]);
          continue;
        }
        const wait = { woken, ms: now - begun };
        if (isHopeless(wait)) throw givenUp(wait);
        woken++;
        wakeNext(sleeper);
      }
      return await promise;
    },
  };
}

/** Checks a number of milliseconds. It has a lower bound because time never goes back. */
function checkTime(ms: unknown, field: string, least: number): number {
  if (typeof ms === "number" && Number.isFinite(ms) && ms >= least) return ms;
  const expected = `a finite number of milliseconds ${least === 0 ? ">= 0" : "since the Unix epoch"}`;
  throw wrongArgument("This is no time to go on to", field, expected, ms);
}

function givenUp({ woken, ms }: Wait): RateLimiterError {
  return new RateLimiterError(
    `runUntil() gives up: its promise is still pending after ${woken} sleepers and ${
      Math.floor(ms / 86_400_000)
    } d of ` +
      "virtual time. What it waits for seems never to come: look for a permit that nobody releases, or a promise that " +
      "nobody resolves. If it does take longer, go on with advance(ms), and then await the promise.",
  );
}

/** What this module uses of the globals of Deno, Bun and Node. Other runtimes may lack it. */
const { setImmediate } = globalThis as { setImmediate?: (task: () => void) => unknown };

/** Lets every promise that can settle do so: a task comes after all microtasks. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    // In Deno, once something has loaded node:worker_threads, a message arrives after only a few microtasks.
    if (setImmediate) return void setImmediate(resolve);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
