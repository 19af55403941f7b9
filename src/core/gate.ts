/** Who wants to come in. */
export interface Visitor {
  /** It is inside now, until it calls {@link Gate.leave}; `isEarly`: because the gate was opened for everybody. */
  admitted(isEarly: boolean): void;
}

/**
 * Lets only so many in at once; the others wait for their turn, in order. What is sent to a store that has enough to do would
 * only wait there: the longer, the more it is, until the answers come too late for the slots that they grant.
 */
export class Gate {
  #free: number;
  #waiting: Visitor[] = [];
  /** How many of those have had their turn. */
  #served = 0;
  /** How many of the others are let in although there is no room. */
  #early = 0;
  #isAdmitting = false;

  /** With room for `most`. */
  constructor(most: number) {
    this.#free = most;
  }

  /** Whether somebody waits. */
  get isCrowded(): boolean {
    return this.#served < this.#waiting.length;
  }

  /** Lets the visitor in, now or when it is its turn. One that is urgent has not to wait. */
  enter(visitor: Visitor, isUrgent: boolean): void {
    if (this.#free <= 0 && !isUrgent) this.#waiting.push(visitor);
    else {
      this.#free--;
      visitor.admitted(false);
    }
  }

  /** Somebody has left. */
  leave(): void {
    this.#free++;
    this.#admit();
  }

  /** Lets everybody in who waits. */
  open(): void {
    this.#early = this.#waiting.length - this.#served;
    this.#admit();
  }

  /** One after the other, and not one from within the other: thousands may leave at once. */
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
