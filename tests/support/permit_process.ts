// A separate process for tests that holds permits. Reads orders from its standard input, one line of JSON each, and
// answers each with one line.
import process from "node:process";
import { createInterface } from "node:readline";
import { createRateSync, type LimiterState, natsStore, type Permit } from "../../mod.ts";

/** The limit that a process shares with others. */
export interface PermitOrder {
  readonly url: string;
  readonly bucketName: string;
  readonly maxConcurrent: number;
  readonly leaseMs: number;
}

/** What a process can be told to do, and how it answers. Moments are milliseconds since the Unix epoch on this host. */
export interface PermitOrders {
  /** Connects. */
  open(): Promise<void>;
  /** Takes a permit and keeps it under a name; answers when it has it. */
  acquire(name: string): Promise<number>;
  /** Takes a permit under a name if there is one. */
  tryAcquire(name: string): Promise<boolean>;
  /** Gives the permit back; answers with the moment when that began. */
  release(name: string): Promise<number>;
  /** Whether the permit is lost. */
  isLost(name: string): Promise<boolean>;
  /** Answers once the signal of the permit has aborted. */
  whenLost(name: string): Promise<{ readonly lost: boolean; readonly reason: string }>;
  state(): Promise<LimiterState>;
  /**
   * Makes `count` acquires, each of which is cancelled after up to `withinMs` milliseconds, or holds its permit until
   * then.
   */
  cancel(count: number, withinMs: number): Promise<CancelReport>;
  /** Has callers hold a permit for `holdMs`, again and again; answers how many they got. */
  loop(callers: number, holdMs: number, forMs: number): Promise<number>;
  /** How long raw reads of the store take, one after another, in milliseconds. */
  trips(count: number): Promise<readonly number[]>;
}

/** How the acquires that were cancelled ended. */
export interface CancelReport {
  readonly cancelled: number;
  readonly granted: number;
  readonly errors: readonly string[];
}

/** An order on its way; `id` comes back with the answer. */
export interface PermitRequest {
  readonly id: number;
  readonly order: keyof PermitOrders;
  readonly args: readonly unknown[];
}

/** The answer to an order. */
export interface PermitAnswer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

const now = () => performance.timeOrigin + performance.now();
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function permitOrders({ url, bucketName, ...limit }: PermitOrder): PermitOrders {
  const options = { url, bucketName, autoCreate: true, storage: "memory", backendTimeoutMs: 30_000 } as const;
  const rateSync = createRateSync();
  rateSync.configureStore("nats", { engine: "nats", ...options });
  rateSync.configureLimiter("permits", { store: "nats", onFailure: "closed", ...limit });
  const limiter = rateSync.getLimiter("permits");
  const { warn, error } = console;
  // What the process prints are its answers.
  const logger = { debug() {}, info() {}, warn, error };
  const raw = natsStore(options, { id: "raw", logger });
  const permits = new Map<string, Permit>();
  const permit = (name: string) => {
    const found = permits.get(name);
    if (!found) throw new Error(`no permit '${name}' was taken here`);
    return found;
  };

  async function cancelOne(afterMs: number): Promise<"cancelled" | "granted"> {
    const controller = new AbortController();
    const over = sleep(afterMs).then(() => controller.abort());
    try {
      await using _permit = await limiter.acquire({ signal: controller.signal });
      await over;
      return "granted";
    } catch (error) {
      if (controller.signal.aborted && error === controller.signal.reason) return "cancelled";
      throw error;
    }
  }

  return {
    async open() {
      await limiter.initialize();
      await raw.open();
    },
    async acquire(name) {
      permits.set(name, await limiter.acquire());
      return now();
    },
    async tryAcquire(name) {
      const result = await limiter.tryAcquire();
      if (result.allowed) permits.set(name, result.permit);
      return result.allowed;
    },
    async release(name) {
      const at = now();
      await permit(name).release();
      return at;
    },
    isLost: (name) => Promise.resolve(permit(name).lost),
    async whenLost(name) {
      const { signal } = permit(name);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return { lost: permit(name).lost, reason: String(signal.reason) };
    },
    state: () => limiter.getState(),
    async cancel(count, withinMs) {
      const errors: string[] = [];
      const ended = { cancelled: 0, granted: 0 };
      await Promise.all(Array.from({ length: count }, async () => {
        await sleep(Math.random() * withinMs);
        try {
          ended[await cancelOne(Math.random() * withinMs)]++;
        } catch (error) {
          errors.push(String(error));
        }
      }));
      return { ...ended, errors };
    },
    async loop(callers, holdMs, forMs) {
      const over = AbortSignal.timeout(forMs);
      let grants = 0;
      await Promise.all(Array.from({ length: callers }, async () => {
        while (!over.aborted) {
          try {
            await using _permit = await limiter.acquire({ signal: over });
            grants++;
            await sleep(holdMs);
          } catch (error) {
            if (!over.aborted) throw error;
          }
        }
      }));
      return grants;
    },
    async trips(count) {
      const trips: number[] = [];
      for (let i = 0; i < count; i++) {
        const sent = performance.now();
        await raw.kv.get("permits");
        trips.push(performance.now() - sent);
      }
      return trips;
    },
  };
}

async function answer(orders: PermitOrders, { id, order, args }: PermitRequest): Promise<PermitAnswer> {
  try {
    const obey: (...args: never[]) => Promise<unknown> = orders[order];
    return { id, value: await obey(...args as never[]) }; // the sender has checked them
  } catch (error) {
    return { id, error: String(error) };
  }
}

const [order] = process.argv.slice(2);
if (order !== undefined) {
  const orders = permitOrders(JSON.parse(order));
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    answer(orders, JSON.parse(line)).then((reply) => process.stdout.write(JSON.stringify(reply) + "\n"));
  });
  // The process that gave the orders is gone.
  lines.on("close", () => process.exit());
}
