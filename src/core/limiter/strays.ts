/**
 * Objects that are known under no name any more, but that somebody may still have and use. They are held weakly: one
 * that nobody can reach is gone.
 *
 * @typeParam Stray What goes astray.
 */
export class Strays<Stray extends object> {
  #all: WeakRef<Stray>[] = [];
  #sweepAbove = LEAST_SWEPT;

  add(stray: Stray): void {
    if (this.#all.length >= this.#sweepAbove) {
      this.#all = this.#all.filter((ref) => ref.deref() !== undefined);
      this.#sweepAbove = Math.max(LEAST_SWEPT, 2 * this.#all.length);
    }
    this.#all.push(new WeakRef(stray));
  }

  /** Those that still exist. */
  get all(): readonly Stray[] {
    return this.#all.map((ref) => ref.deref()).filter((stray) => stray !== undefined);
  }

  /** Those for which `meant` says so are no longer strays. */
  drop(meant: (stray: Stray) => boolean): void {
    this.#all = this.all.filter((stray) => !meant(stray)).map((stray) => new WeakRef(stray));
  }
}

/** Up to this many are not looked at. */
const LEAST_SWEPT = 32;
