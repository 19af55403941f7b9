import type { Random } from "../support/random.ts";
import type { World } from "./world.ts";

/** What can happen to a message on its way. */
export interface Conditions {
  /** The shortest time that a message takes, in milliseconds. */
  readonly leastMs: number;
  /** The longest time that it takes when nothing is wrong. */
  readonly mostMs: number;
  /** How likely it is to be lost. */
  readonly loss: number;
  /** How likely it is to arrive twice. */
  readonly duplicates: number;
  /** How likely it is to be late by up to `lateMs`. */
  readonly late: number;
  readonly lateMs: number;
}

/** A message that did not arrive, or arrived late. */
export interface Mishap {
  readonly at: number;
  /** How late it was; `Infinity` if it was lost. */
  readonly lateMs: number;
}

/**
 * Messages between named endpoints. Each takes its own time, so they may overtake each other. Nobody is told that one
 * was lost.
 */
export interface Network {
  /** Calls `receive` with what is sent to that name. What is sent to a name that nobody has is lost. */
  serve(name: string, receive: (message: unknown, from: string) => void): void;
  leave(name: string): void;
  /** Whatever is sent to or from the endpoint takes `distanceMs` longer from now on, in milliseconds. */
  place(name: string, distanceMs: number): void;
  send(from: string, to: string, message: unknown): void;
  /** The conditions for everybody from now on. */
  conditions: Conditions;
  /** Loses everything to and from the endpoint for a while. */
  cut(name: string, ms: number): void;
  /** Whether the endpoint is cut off now. */
  isCut(name: string): boolean;
  readonly mishaps: readonly Mishap[];
  /** Makes what is sent to and from the endpoint worse for a while. */
  disturb(name: string, worse: Partial<Conditions>, ms: number): void;
}

/** A {@link Network} without any endpoint. */
export function createNetwork(world: World, random: Random, initial: Conditions): Network {
  const endpoints = new Map<string, (message: unknown, from: string) => void>();
  const cuts = new Map<string, number>();
  const distances = new Map<string, number>();
  const disturbed = new Map<string, { readonly worse: Partial<Conditions>; readonly until: number }>();
  let conditions = initial;
  const mishaps: Mishap[] = [];

  const distanceOf = (name: string) => distances.get(name) ?? 0;
  const isCut = (name: string) => world.now < (cuts.get(name) ?? -Infinity);

  function conditionsOf(name: string): Partial<Conditions> {
    const found = disturbed.get(name);
    return found && world.now < found.until ? found.worse : {};
  }

  function send(from: string, to: string, message: unknown): void {
    const now = disturbed.size === 0 ? conditions : { ...conditions, ...conditionsOf(from), ...conditionsOf(to) };
    const copies = random.chance(now.duplicates) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const isLost = random.chance(now.loss) || isCut(from) || isCut(to);
      const isLate = random.chance(now.late);
      const lateMs = isLate ? random.between(0, now.lateMs) : 0;
      const delay = random.between(now.leastMs, now.mostMs) + lateMs + distanceOf(from) + distanceOf(to);
      if (isLost) {
        mishaps.push({ at: world.now, lateMs: Infinity });
        world.note(from, () => `-> ${to} lost: ${shown(message)}`);
        continue;
      }
      if (isLate) mishaps.push({ at: world.now, lateMs });
      world.at(world.now + delay, () => {
        if (isCut(to)) {
          mishaps.push({ at: world.now, lateMs: Infinity });
          return world.note(from, () => `-> ${to} lost on arrival: ${shown(message)}`);
        }
        endpoints.get(to)?.(message, from);
      });
    }
  }

  return {
    serve: (name, receive) => endpoints.set(name, receive),
    leave: (name) => endpoints.delete(name),
    place: (name, distanceMs) => distances.set(name, distanceMs),
    send,
    get conditions() {
      return conditions;
    },
    set conditions(changed) {
      conditions = changed;
    },
    cut(name, ms) {
      world.note(name, () => `is cut off for ${Math.round(ms)} ms`);
      cuts.set(name, Math.max(cuts.get(name) ?? -Infinity, world.now + ms));
    },
    isCut,
    mishaps,
    disturb(name, worse, ms) {
      world.note(name, () => `has bad conditions for ${Math.round(ms)} ms: ${JSON.stringify(worse)}`);
      disturbed.set(name, { worse, until: world.now + ms });
    },
  };
}

/** A message for people: bytes are shown as the text that they stand for. */
export function shown(message: unknown): string {
  return JSON.stringify(
    message,
    (_key, value) => value instanceof Uint8Array ? new TextDecoder().decode(value) : value,
  );
}
