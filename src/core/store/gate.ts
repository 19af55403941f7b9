/** A caller that wants to come in. */
export interface Visitor {
  /**
   * The visitor is inside from now on, until it calls {@link Gate.leave}. `isEarly` says that the gate was opened for
   * everybody.
   */
  admitted(isEarly: boolean): void;
}

/**
 * Lets in only so many at once; the others wait for their turn, in order. What is sent to a busy store would only wait
 * there, and the more there is, the longer, until the answers come too late for the slots that they grant.
 */
export class Gate {
  #free: number;
  #waiting: Visitor[] = [];
  /** How many of those in `#waiting` have had their turn. */
  #served = 0;
  /** How many of the others are let in although there is no room. */
  #early = 0;
  #isAdmitting = false;

  /** With room for `most` visitors. */
  constructor(most: number) {
    this.#free = most;
  }

  /** Whether anybody waits. */
  get isCrowded(): boolean {
    return this.#served < this.#waiting.length;
  }

  /** Lets the visitor in, now or when its turn comes. An urgent one does not have to wait. */
  enter(visitor: Visitor, isUrgent: boolean): void {
    if (this.#free <= 0 && !isUrgent) this.#waiting.push(visitor);
    else {
      this.#free--;
      visitor.admitted(false);
    }
  }

  /** A visitor has left. */
  leave(): void {
    this.#free++;
    this.#admit();
  }

  /** Lets in everybody who waits. */
  open(): void {
    this.#early = this.#waiting.length - this.#served;
    this.#admit();
  }

  /** One after another, and never one from within another: thousands may leave at once. */
  #admit(): void {
    if (this.#isAdmitting) return;
    this.#isAdmitting = true;
    while (this.isCrowded && (this.#free > 0 || this.#early > 0)) this.#admitNext();
    this.#isAdmitting = false;
  }

  #admitNext(): void {
    const next = this.#waiting[this.#served]!; // somebody waits: see above
    this.#served++;
    if (2 * this.#served > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#served);
      this.#served = 0;
    }
    const isEarly = this.#early > 0;
    if (isEarly) this.#early--;
    this.#free--;
    next.admitted(isEarly);
  }
}
