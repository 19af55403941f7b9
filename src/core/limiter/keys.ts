import { checkKey } from "../arguments.ts";
import { type FrozenMeter, Meter } from "../cell/metrics.ts";
import type { Parts } from "../decision/decide.ts";
import type { Writer } from "../decision/state.ts";
import { KeyLimiter, type KeyRing } from "./key_limiter.ts";
import type { Past } from "./life.ts";
import type { Shared } from "./shared.ts";
import { Strays } from "./strays.ts";

/** When keys have to go, one in this many goes at once. */
const EVICTIONS = 16;
/** To find those that can go, twice as many keys are looked at, and this many more: busy ones stay. */
const EVICTION_SCAN = 4;
/** How many limiters of unused keys stay as they are; of the others, only a line of text is kept. */
const MOST_WARM = 100;
/** How many limiters are looked at in one go, which is due whenever half as many have come: so they become fewer. */
const COOLED_AT_ONCE = 100;

/** A {@link Past} as a line of text, which takes a tenth of the space. */
type Frozen = string;

/**
 * The limiters of a limiter's keys, while they are in use or were lately. The others are kept as a line of text that
 * says what is known about them, so that a million users, few of whom come at the same time, take little space.
 */
export class Keys implements KeyRing {
  readonly #shared: Shared;
  /** The least recently used first, roughly. */
  readonly #all = new Map<string, KeyLimiter | Frozen>();
  /** Those that are not a line of text. */
  readonly #warm = new Set<KeyLimiter>();
  /** Those that were forgotten while somebody had them, and may be used again. */
  readonly #strays = new Strays<KeyLimiter>();
  // A walk over a map first passes everything that was deleted at its front. So it is done rarely, and then for many
  // keys at once.
  #evictAbove = 0;
  #coolAbove = 2 * MOST_WARM;
  readonly #onRest = (limiter: KeyLimiter) => {
    if (!limiter.idle) return;
    // One that was forgotten while somebody had it goes on working, and has to be forgotten again.
    if (limiter.name !== undefined && this.#all.get(limiter.name) !== limiter) limiter.park();
    else if (this.#warm.size > MOST_WARM) this.#freeze(limiter);
  };

  /** No limiters yet. */
  constructor(shared: Shared) {
    this.#shared = shared;
  }

  /** The limiter of this key: the same object, as long as it is in use. */
  get(key: string): KeyLimiter {
    const found = this.#all.get(key);
    if (typeof found === "object") {
      found.isUsed = true;
      return found;
    }
    checkKey(key);
    const limiter = new KeyLimiter(
      this.#shared,
      undefined,
      key,
      this.#onRest,
      found === undefined ? undefined : this.#thawed(found),
    );
    this.#all.set(key, limiter);
    this.#warm.add(limiter);
    if (this.#warm.size > this.#coolAbove) this.#cool();
    if (this.#all.size > Math.max(this.#shared.context.mostKeys, this.#evictAbove)) this.#evict();
    return limiter;
  }

  /**
   * Applies `act` to all limiters, including those that were forgotten. Of limiters that nobody has, nothing is left.
   */
  async all(act: (limiter: KeyLimiter) => Promise<void>): Promise<void> {
    const limiters: KeyLimiter[] = [];
    for (const [key, limiter] of this.#all) {
      if (typeof limiter === "object") limiters.push(limiter);
      else this.#all.delete(key);
    }
    await Promise.all([...limiters, ...this.#strays.all].map(act));
  }

  /** Keeps only a line of text of the limiter, if it is no longer in use. */
  #freeze(limiter: KeyLimiter): void {
    const { name, past } = limiter;
    if (name === undefined || past === undefined) return;
    limiter.park();
    this.#warm.delete(limiter);
    // It goes to the end: a map keeps the order of insertion.
    this.#all.delete(name);
    this.#all.set(name, frozen(past));
  }

  /** Looks for limiters that are no longer in use: nothing reports the end of a refusal that is certain. */
  #cool(): void {
    let left = COOLED_AT_ONCE;
    for (const limiter of this.#warm) {
      if (left-- === 0) break;
      this.#warm.delete(limiter);
      this.#warm.add(limiter);
      if (limiter.isUsed) limiter.isUsed = false;
      else this.#freeze(limiter);
    }
    this.#coolAbove = Math.max(2 * MOST_WARM, this.#warm.size + COOLED_AT_ONCE / 2);
  }

  #thawed(text: Frozen): Past {
    const [counts, known] = JSON.parse(text) as Ice; // it was made by frozen()
    const meter = Meter.revived(counts, this.#shared.meter);
    if (!known) return { meter, knowledge: undefined };
    const [epoch, parts, writers, revision, answered, session = undefined] = known;
    const state = { epoch, parts, writers, others: [] };
    return { meter, knowledge: { state, revision, answeredAt: epoch + answered, session } };
  }

  /** Forgets the keys that have not been used for longest, unless somebody waits or holds a permit there. */
  #evict(): void {
    const { mostKeys } = this.#shared.context;
    const atOnce = Math.floor(mostKeys / EVICTIONS);
    let left = EVICTION_SCAN + 2 * atOnce;
    for (const [key, limiter] of this.#all) {
      if (this.#all.size <= mostKeys - atOnce || left-- === 0) break;
      this.#all.delete(key);
      if (typeof limiter === "string") continue;
      if (limiter.isUsed || !limiter.idle) {
        limiter.isUsed = false;
        this.#all.set(key, limiter);
        continue;
      }
      limiter.park();
      this.#warm.delete(limiter);
      if (limiter.isHandedOut) this.#strays.add(limiter);
    }
    this.#evictAbove = this.#all.size + atOnce;
  }
}

type Known = [
  epoch: number,
  parts: Parts,
  writers: readonly Writer[],
  revision: number,
  /** Relative to the epoch, which takes fewer digits. */
  answered: number,
  session?: number,
];
type Ice = [counts: FrozenMeter, known?: Known];

function frozen({ meter, knowledge }: Past): Frozen {
  const ice: Ice = [meter.frozen()];
  // What is kept for others is not that brief. It is read again.
  if (knowledge && knowledge.state.others.length === 0) {
    const { state: { epoch, parts, writers }, revision, answeredAt, session } = knowledge;
    const at = Math.floor(answeredAt - epoch);
    ice.push(
      session === undefined ? [epoch, parts, writers, revision, at] : [epoch, parts, writers, revision, at, session],
    );
  }
  return JSON.stringify(ice);
}
