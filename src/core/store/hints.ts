import type { Kv } from "./kv.ts";

/** The hints that something under a key was released, if the store can give any. */
export class Hints {
  readonly #kv: Kv;
  readonly #key: string;
  readonly #onHint: () => void;
  #heard: Promise<AsyncDisposable> | undefined;

  /** Calls `onHint` for each hint, once it listens. */
  constructor(kv: Kv, key: string, onHint: () => void) {
    this.#kv = kv;
    this.#key = key;
    this.#onHint = onHint;
  }

  /** Hears of released permits from now on. */
  listen(): void {
    if (this.#heard || !this.#kv.wake) return;
    // A separate function each time: a store may know its listeners by their functions, and an earlier one may not be
    // gone yet.
    const heard = this.#heard = this.#kv.wake(this.#key, () => this.#onHint());
    // Without hints, callers that wait still look by themselves.
    heard.catch(() => {
      if (this.#heard === heard) this.#heard = undefined;
    });
  }

  /** Nobody waits for a permit any more. */
  unlisten(): void {
    this.#heard?.then((hints) => hints[Symbol.asyncDispose]()).catch(() => {});
    this.#heard = undefined;
  }
}
