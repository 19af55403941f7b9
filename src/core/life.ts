import type { Grant } from "./batch.ts";
import { Cell, type CellOwner } from "./cell.ts";
import type { CellContext } from "./cell_context.ts";
import type { Clock } from "./clock.ts";
import { createLease, type Lease, type LosableLease, NO_LEASE } from "./lease.ts";
import type { Knowledge } from "./ledger.ts";
import type { LimiterContext } from "./limiter.ts";
import type { LimiterConfig } from "./limiter_config.ts";
import type { Meter } from "./metrics.ts";

/** What there is of a limiter for one key until it begins anew: its cell, and what was granted there. */
export class Life implements CellOwner {
  readonly context: LimiterContext;
  /** What the store goes by. */
  readonly clock: Clock;
  readonly meter: Meter;
  /** Before this has settled, the store is not asked. */
  readonly begins: Promise<unknown> | undefined;
  /** What the cell of an earlier life knew that was only forgotten to save room. */
  readonly knowledge: Knowledge | undefined;
  opening: Promise<Cell> | undefined;
  /** Once the store is open. */
  cell: Cell | undefined;
  /** Whether the store has been opened for this limiter, now or in an earlier life. */
  opened = false;
  /** Called when nothing is being written any more, and nobody waits. */
  onRest: (() => void) | undefined;
  #leases: Map<number, LosableLease> | undefined;
  #ended: string | undefined;

  /** A life in which nothing has happened yet. */
  constructor(context: LimiterContext, meter: Meter, begins?: Promise<unknown>, knowledge?: Knowledge) {
    this.context = context;
    this.clock = context.store.clock;
    this.meter = meter;
    this.begins = begins;
    this.knowledge = knowledge;
  }

  /** Begins to use what the store calls `place`. */
  begin(cells: CellContext, place: string): Cell {
    this.opened = true;
    return this.cell = new Cell(cells, this, place, this.knowledge);
  }

  /** The cell, unless the store has to be opened first, or its clock to be compared with the server's. */
  get readyCell(): Cell | undefined {
    return this.context.store.isClockStale === true ? undefined : this.cell;
  }

  /** What who was granted this holds from now on. */
  lease(limiterId: string, { maxConcurrent, leaseMs }: LimiterConfig, grant: Grant): Lease {
    if (maxConcurrent === null) return NO_LEASE;
    const { permit } = grant.demand;
    this.meter.permit(1);
    const lease = createLease(limiterId, leaseMs, {
      release: () => {
        this.#leases?.delete(permit);
        this.meter.permit("released");
        return this.cell!.giveBack(grant, false); // it was granted by the cell
      },
      lost: () => this.meter.permit(-1),
    });
    this.#leases ??= new Map();
    this.#leases.set(permit, lease);
    if (this.#ended !== undefined) lease.lose(this.#ended);
    return lease;
  }

  /** Takes a grant back that nobody used. Resolves when that is written. */
  cancel(grant: Grant): Promise<void> {
    if (this.#leases?.delete(grant.demand.permit)) this.meter.permit(-1);
    return this.cell!.giveBack(grant, true); // it was granted by the cell
  }

  /** A permit is lost: its lease ran out before it was renewed. */
  lost(permit: number): void {
    this.#leases?.get(permit)?.lose();
    this.#leases?.delete(permit);
  }

  /** Nothing is being written any more. */
  rested(): void {
    this.onRest?.();
  }

  /** Everything that is held is lost. `why`: in a sentence. */
  end(why: string): void {
    this.#ended = why;
    for (const lease of this.#leases?.values() ?? []) lease.lose(why);
    this.#leases?.clear();
  }

  /** The cell, if there is one or will be. */
  async lastCell(): Promise<Cell | undefined> {
    return this.cell ?? await this.opening?.catch(() => undefined);
  }
}
