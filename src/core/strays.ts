/**
 * What others may still have and use although nobody else knows it any more, for as long as they do. What nobody can reach
 * is in nobody's way either, and is gone.
 *
 * @typeParam Stray What goes astray.
 */
export class Strays<Stray extends object> {
  #all: WeakRef<Stray>[] = [];
  #sweepAbove = LEAST_SWEPT;

  /** One more. */
  add(stray: Stray): void {
    if (this.#all.length >= this.#sweepAbove) {
      this.#all = this.#all.filter((ref) => ref.deref() !== undefined);
      this.#sweepAbove = Math.max(LEAST_SWEPT, 2 * this.#all.length);
    }
    this.#all.push(new WeakRef(stray));
  }

  /** Those that there still are. */
  get all(): readonly Stray[] {
    return this.#all.map((ref) => ref.deref()).filter((stray) => stray !== undefined);
  }

  /** Those which are `meant` are no strays any more. */
  drop(meant: (stray: Stray) => boolean): void {
    this.#all = this.all.filter((stray) => !meant(stray)).map((stray) => new WeakRef(stray));
  }
}

/** So few are not looked at before there are more. */
const LEAST_SWEPT = 32;
