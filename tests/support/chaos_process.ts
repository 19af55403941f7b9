// A separate process for tests in which things go wrong: callers that use limiters without a pause, and record
// everything they see, in one line of JSON each. It goes on until its standard input ends, and then has to end by
// itself.
import { closeSync, openSync, writeSync } from "node:fs";
import process from "node:process";
import { setTimeout as setTimer } from "node:timers";
import { createRateSync, type LimiterOptions, RateLimiterAcquisitionError } from "../../mod.ts";
import { machineNow } from "./machine_clock.ts";

/** What a process is to do. */
export interface ChaosOrder {
  /** The file to record to. */
  readonly record: string;
  readonly store: ChaosStore;
  readonly limiters: Readonly<Record<string, ChaosLimiter>>;
}

/** Where the limits are kept: in files, because what is in memory does not outlive a server. */
export interface ChaosStore {
  readonly url: string;
  readonly bucketName: string;
  readonly replicas: number;
  readonly backendTimeoutMs: number;
}

/** A limiter, and who uses it. */
export interface ChaosLimiter {
  readonly options: LimiterOptions;
  readonly callers: number;
  /** The most that a request costs. */
  readonly mostCost: number;
  /** The longest time that a permit is held. */
  readonly holdMs: number;
  /** How long one permit in twenty is held: long enough that its lease has to be renewed. */
  readonly longHoldMs: number;
}

/** A line of the record. Moments are those of {@link machineNow}. */
export type Entry =
  | readonly ["opened", at: number]
  | readonly ["asked", id: number, at: number, limiter: string, caller: number, cost: number]
  /** `servedAt` is the moment at which the limiter let the request start, according to what it says about the wait. */
  | readonly ["granted", id: number, at: number, servedAt: number]
  | readonly ["ended", id: number, at: number]
  | readonly ["lost", id: number, at: number]
  | readonly ["answered", id: number, at: number, kind: string]
  /** The machine did not let the process run. */
  | readonly ["stalled", from: number, until: number]
  | readonly ["warned", at: number, message: string]
  | readonly ["closed", at: number];

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
/** A caller whose request was refused or failed asks again after this long. */
const PAUSE_MS = 40;
/** Of twenty requests, one does not wait, one waits only for a short time, and one is cancelled. */
const KINDS = 20;
const SHORT_MS = 250;
const LOOK_EVERY_MS = 20;
/** A process that does not look for this long was stopped: nothing that it does takes that long. */
const STALL_MS = 200;
/** A process that does not end by itself is a failure, but must not stay for ever. */
const STUCK_MS = 30_000;

async function run({ record, store, limiters }: ChaosOrder, over: AbortSignal): Promise<void> {
  const file = openSync(record, "a");
  // Written at once, so that a process that is killed has recorded everything that it saw.
  const write = (...entry: Entry) => void writeSync(file, JSON.stringify(entry) + "\n");
  let ranAt = machineNow();
  const now = () => {
    const at = machineNow();
    if (at - ranAt > STALL_MS) write("stalled", ranAt, at);
    return ranAt = at;
  };
  const heartbeat = setInterval(now, LOOK_EVERY_MS);
  const warn = (message: string) => write("warned", now(), message);
  const rateSync = createRateSync({ logger: { debug() {}, info() {}, warn, error: warn } });
  rateSync.configureStore("nats", { engine: "nats", autoCreate: true, ...store });
  for (const [id, { options }] of Object.entries(limiters)) rateSync.configureLimiter(id, options);
  for (let isOpen = false; !isOpen && !over.aborted;) {
    isOpen = await rateSync.initializeAllLimiters().then(() => true, (error) => {
      warn(String(error));
      return sleep(PAUSE_MS).then(() => false);
    });
  }
  write("opened", now());
  let last = 0;

  async function callOnce(limiter: string, caller: number): Promise<void> {
    const { mostCost, holdMs, longHoldMs, options: { maxConcurrent } } = limiters[limiter]!; // it is one of them
    const id = ++last;
    const kind = Math.floor(Math.random() * KINDS);
    const cost = kind % 4 === 3 ? mostCost : 1;
    const cancelled = kind === 2 ? AbortSignal.timeout(Math.random() * SHORT_MS) : undefined;
    write("asked", id, now(), limiter, caller, cost);
    const asked = machineNow(); // writing that may have taken a while
    try {
      const permit = await rateSync.acquire(limiter, {
        cost,
        signal: cancelled ? AbortSignal.any([cancelled, over]) : over,
        ...kind === 0 ? { timeoutMs: 0 } : kind === 1 ? { timeoutMs: SHORT_MS } : {},
      });
      const granted = now();
      // A caller that does not want to wait is not told how long the store took.
      write("granted", id, granted, kind === 0 ? granted : asked + permit.waitedMs);
      if (maxConcurrent !== undefined) {
        permit.signal.addEventListener("abort", () => write("lost", id, now()));
        await sleep(kind === 3 ? longHoldMs : Math.random() * holdMs);
      }
      write("ended", id, now());
      await permit.release();
    } catch (error) {
      const kind = kindOf(error, cancelled?.aborted || over.aborted);
      write("answered", id, now(), kind);
      if (!over.aborted && kind !== "aborted") await sleep(PAUSE_MS);
    }
  }

  await Promise.all(
    Object.entries(limiters).flatMap(([limiter, { callers }]) =>
      Array.from({ length: callers }, async (_, caller) => {
        while (!over.aborted) await callOnce(limiter, caller);
      })
    ),
  );
  await rateSync.close();
  clearInterval(heartbeat);
  write("closed", now());
  closeSync(file);
}

function kindOf(error: unknown, aborted: boolean): string {
  if (error instanceof RateLimiterAcquisitionError) {
    if (error.reason === "timeout") return "refused";
    if (error.reason === "backend") return "unavailable";
  } else if (aborted && error instanceof DOMException) return "aborted";
  return String(error);
}

const [order] = process.argv.slice(2);
if (order !== undefined) {
  const over = new AbortController();
  process.stdin.on("data", () => {});
  process.stdin.on("end", () => {
    over.abort();
    setTimer(() => process.exit(3), STUCK_MS).unref();
  });
  await run(JSON.parse(order), over.signal);
}
