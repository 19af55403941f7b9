import type { Clock } from "../../src/core/clock.ts";
import type { Random } from "../support/random.ts";
import type { World } from "./world.ts";

/** What the server's clock says when the simulation begins: a time that code cannot mistake for the real one. */
export const START = Date.UTC(2030, 0, 1);

/** How a machine tells the time. */
export interface HostOptions {
  /** How far its wall clock is ahead of the server's when it starts, in milliseconds. */
  readonly skewMs: number;
  /** How much too fast its monotonic clock runs, in parts per million. */
  readonly driftPpm: number;
  /** How late its timers are at most, in milliseconds. */
  readonly timerLateMs: number;
  /** How much longer each message to and from it takes, in milliseconds. */
  readonly distanceMs?: number | undefined;
}

/** A machine with one process on it: its clocks, its timers, and whether it runs. */
export interface Host {
  readonly name: string;
  /** The true time. */
  readonly now: number;
  /** Like the system clock: set when the process started, and monotonic from then on. */
  readonly clock: Clock;
  /** Milliseconds since some moment; it never goes back. */
  monotonic(): number;
  /** The wall clock, which can be set. */
  wall(): number;
  /** Sets the wall clock forward, or back. */
  step(ms: number): void;
  /** Whether it has not been killed. */
  readonly isAlive: boolean;
  /** Stops the process for a while: it runs no code, and what it should have done comes late. */
  pause(ms: number): void;
  /** Whether it is stopped now, or wakes up at this moment. */
  readonly isPaused: boolean;
  /** Kills the process. */
  crash(): void;
  /** Runs code of the process: now, or when it runs again. */
  deliver(run: () => void): void;
  /** How many timers are set. */
  readonly timers: number;
  /** When it was stopped, and until when. */
  readonly pauses: readonly { readonly from: number; readonly to: number }[];
}

/** The least that a timer is late, in milliseconds: no rounding of a clock makes it early. */
const LEAST_LATE_MS = 0.001;

/** A {@link Host} that starts now. */
export function createHost(world: World, random: Random, name: string, options: HostOptions): Host {
  const { skewMs, driftPpm, timerLateMs } = options;
  const born = world.now;
  const speed = 1 + driftPpm / 1e6;
  const uptime = random.between(0, 1e6);
  const pauses: { readonly from: number; to: number }[] = [];
  let steps = 0;
  let isAlive = true;
  let pausedUntil = -Infinity;
  let backlog: (() => void)[] = [];
  let timers = 0;

  const elapsed = () => (world.now - born) * speed;

  function resume(): void {
    if (world.now < pausedUntil) return;
    const waiting = backlog;
    backlog = [];
    for (const run of waiting) world.at(world.now, () => deliver(run));
  }

  function deliver(run: () => void): void {
    if (!isAlive) return;
    if (world.now < pausedUntil) backlog.push(run);
    else run();
  }

  const clock: Clock = {
    now: () => START + born + skewMs + elapsed(),
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const late = LEAST_LATE_MS + random.between(0, timerLateMs);
        let isOver = false;
        timers++;
        const timer = world.at(world.now + Math.max(0, ms) / speed + late, () => deliver(wake));
        function over(): boolean {
          if (isOver) return false;
          timers--;
          signal?.removeEventListener("abort", abort);
          return isOver = true;
        }
        function wake(): void {
          if (over()) resolve();
        }
        function abort(): void {
          timer.cancel();
          if (over()) reject(signal?.reason);
        }
        signal?.addEventListener("abort", abort);
      });
    },
  };

  return {
    name,
    get now() {
      return world.now;
    },
    clock,
    monotonic: () => uptime + elapsed(),
    wall: () => clock.now() + steps,
    step(ms) {
      world.note(name, () => `its wall clock is set by ${ms} ms`);
      steps += ms;
    },
    get isAlive() {
      return isAlive;
    },
    pause(ms) {
      if (!isAlive || world.now + ms <= pausedUntil) return;
      world.note(name, () => `stops for ${Math.round(ms)} ms`);
      const last = pauses.at(-1);
      if (last && world.now <= pausedUntil) last.to = world.now + ms;
      else pauses.push({ from: world.now, to: world.now + ms });
      pausedUntil = world.now + ms;
      world.quietlyAt(pausedUntil, resume);
    },
    get isPaused() {
      return isAlive && world.now <= pausedUntil;
    },
    crash() {
      world.note(name, () => "is killed");
      isAlive = false;
      backlog = [];
    },
    deliver,
    get timers() {
      return timers;
    },
    pauses,
  };
}
