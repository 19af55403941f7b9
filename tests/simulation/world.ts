import { setImmediate } from "node:timers";

/** Something that is going to happen. */
export interface Planned {
  cancel(): void;
}

/** What happened, for people. */
export interface Trace {
  readonly at: number;
  readonly who: string;
  readonly what: string;
}

/** True time, and everything that is going to happen in it, in order. */
export interface World {
  /** The true time: milliseconds since the simulation began. */
  readonly now: number;
  /** Plans something. Two things at the same moment happen in the order in which they were planned. */
  at(time: number, happen: () => void): Planned;
  /** As {@link World.at}, for what runs no code under test: then nobody has to be waited for. */
  quietlyAt(time: number, happen: () => void): Planned;
  /** Lets things happen until that moment, or until `isOver` says that it is enough. */
  run(until: number, isOver?: () => boolean): Promise<void>;
  /** Notes what happened. Costs nothing unless the trace is kept. */
  note(who: string, what: () => string): void;
  /** What was noted. */
  readonly trace: readonly Trace[];
  /** A number that two runs share only if the same things happened at the same moments. */
  readonly digest: number;
  /** How much has happened. */
  readonly events: number;
}

interface Event extends Planned {
  readonly time: number;
  readonly order: number;
  readonly isQuiet: boolean;
  happen: (() => void) | undefined;
}

/** So much while time stands still is a loop that never ends. */
const MOST_AT_ONCE = 20_000;

/** A {@link World} in which nothing is planned. */
export function createWorld({ traced = false } = {}): World {
  const heap: Event[] = [];
  const trace: Trace[] = [];
  let now = 0;
  let order = 0;
  let events = 0;
  let atOnce = 0;
  let digest = 0x811c9dc5;

  function isBefore(a: Event, b: Event): boolean {
    return a.time < b.time || (a.time === b.time && a.order < b.order);
  }

  function push(event: Event): void {
    let place = heap.push(event) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[place] = heap[parent]!;
      place = parent;
    }
    heap[place] = event;
  }

  function pop(): Event | undefined {
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let place = 0;
    for (let child = 1; child < heap.length; child = 2 * place + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = last;
    return first;
  }

  function plan(time: number, happen: () => void, isQuiet: boolean): Planned {
    const event: Event = {
      time: Math.max(now, time),
      order: order++,
      isQuiet,
      happen,
      cancel: () => event.happen = undefined,
    };
    push(event);
    return event;
  }

  return {
    get now() {
      return now;
    },
    at: (time, happen) => plan(time, happen, false),
    quietlyAt: (time, happen) => plan(time, happen, true),
    async run(until, isOver = () => false) {
      await settle();
      while (!isOver()) {
        const event = heap[0];
        if (event === undefined || event.time > until) {
          now = Math.max(now, Math.min(until, Number.MAX_VALUE));
          return;
        }
        pop();
        if (event.happen === undefined) continue;
        atOnce = event.time === now ? atOnce + 1 : 0;
        if (atOnce > MOST_AT_ONCE) throw new Error(`a busy loop at ${now}: time stands still`);
        now = event.time;
        events++;
        digest = Math.imul(digest ^ event.order ^ Math.floor(event.time * 1_000), 0x01000193);
        event.happen();
        if (!event.isQuiet) await settle();
      }
    },
    note(who, what) {
      if (traced) trace.push({ at: now, who, what: what() });
    },
    trace,
    get digest() {
      return digest >>> 0;
    },
    get events() {
      return events;
    },
  };
}

/** Lets every promise that can settle do so: a task comes after all microtasks. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
