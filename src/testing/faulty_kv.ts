import { memoryKv } from "../adapters/memory.ts";
import { systemClock } from "../adapters/system_clock.ts";
import { checkOptions, namesOf, wrongArgument } from "../core/arguments.ts";
import type { Clock } from "../core/clock.ts";
import { type InvalidArgumentError, StoreUnavailableError } from "../core/errors.ts";
import type { CasResult, Kv } from "../core/store/kv.ts";
import { seededRandom } from "./random.ts";

/**
 * What a message to a store asks for. `announce` is the hint that something was released; it has no answer that anybody
 * waits for.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type KvOperation } from "@ratesync/core/testing";
 *
 * const kv = createFaultyKv();
 * const operation: KvOperation = "compareAndSet";
 * kv.failNext("conflict", { operation });
 * ```
 */
export type KvOperation = "get" | "compareAndSet" | "delete" | "keys" | "announce";

/**
 * One message to a store, as a {@link FaultScript} sees it.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type KvMessage } from "@ratesync/core/testing";
 *
 * const log: KvMessage[] = [];
 * const kv = createFaultyKv();
 * kv.setFaults((message) => void log.push(message));
 * await kv.get("api");
 * console.log(log); // [{ operation: "get", key: "api" }]
 * ```
 */
export interface KvMessage {
  /** What it asks for. */
  readonly operation: KvOperation;
  /** The key that it is about; for `keys`, the prefix. */
  readonly key: string;
}

/**
 * What goes wrong with one message. A lost message is never answered, so its sender needs a time limit.
 *
 * | `kind`         | The store has carried it out | The caller                                              |
 * | -------------- | ---------------------------- | ------------------------------------------------------- |
 * | `request_lost` | no                           | hears nothing                                           |
 * | `answer_lost`  | yes                          | hears nothing                                           |
 * | `request_late` | `byMs` later                 | waits                                                   |
 * | `answer_late`  | at once                      | waits `byMs` longer                                     |
 * | `error`        | if `applied`                 | gets an error that does not say so                      |
 * | `refused`      | no                           | gets a `StoreUnavailableError` that says `not_applied`  |
 * | `conflict`     | no                           | lost the race: somebody else wrote the key just before  |
 *
 * A `conflict` happens only to a `compareAndSet` of a key that exists. For a hint (`announce`), every other
 * fault that does not make it late loses it.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type Fault } from "@ratesync/core/testing";
 *
 * const fault: Fault = { kind: "answer_late", byMs: 300 };
 * createFaultyKv().failNext(fault);
 * ```
 */
export type Fault =
  | { readonly kind: "request_lost" }
  | { readonly kind: "answer_lost" }
  | { readonly kind: "request_late"; readonly byMs: number }
  | { readonly kind: "answer_late"; readonly byMs: number }
  | { readonly kind: "error"; readonly applied?: boolean | undefined }
  | { readonly kind: "refused" }
  | { readonly kind: "conflict" };

/**
 * The name of a {@link Fault} that has no required parameters.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type FaultName } from "@ratesync/core/testing";
 *
 * const names: FaultName[] = ["answer_lost", "conflict"];
 * const kv = createFaultyKv();
 * for (const name of names) kv.failNext(name);
 * ```
 */
export type FaultName = Exclude<Fault["kind"], "request_late" | "answer_late">;

/**
 * How likely each {@link Fault} is for every message: from 0 to 1, and together not more than 1.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type FaultRates } from "@ratesync/core/testing";
 *
 * const bad: FaultRates = { request_lost: 0.05, answer_lost: 0.05, conflict: 0.2, answer_late: 0.1, lateByMs: 250 };
 * createFaultyKv({ seed: 7 }).setFaults(bad);
 * ```
 */
export type FaultRates = { readonly [kind in Fault["kind"]]?: number | undefined } & {
  /**
   * How late a late message comes, in milliseconds.
   *
   * @default {100}
   */
  readonly lateByMs?: number | undefined;
};

/**
 * Called for every message in turn; the fault that it returns happens to that message.
 *
 * @example Every read is lost
 * ```ts
 * import { createFaultyKv, type FaultScript } from "@ratesync/core/testing";
 *
 * const script: FaultScript = ({ operation }) => operation === "get" ? "request_lost" : undefined;
 * createFaultyKv().setFaults(script);
 * ```
 */
export type FaultScript = (message: KvMessage) => Fault | FaultName | undefined | void;

/**
 * Which messages {@link FaultyKv.failNext} affects.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type FailNextOptions } from "@ratesync/core/testing";
 *
 * const options: FailNextOptions = { times: 3, operation: "compareAndSet", key: "api" };
 * createFaultyKv().failNext("conflict", options);
 * ```
 */
export interface FailNextOptions {
  /**
   * How many messages the fault happens to.
   *
   * @default {1}
   */
  readonly times?: number | undefined;
  /** Only messages with this operation. The default is all that are answered: everything but `announce`. */
  readonly operation?: KvOperation | undefined;
  /** Only messages about this key. The default is any. */
  readonly key?: string | undefined;
}

/**
 * The options of {@link createFaultyKv}.
 *
 * @example
 * ```ts
 * import { memoryKv } from "@ratesync/core";
 * import { createFaultyKv, type FaultyKvOptions } from "@ratesync/core/testing";
 *
 * const kv = memoryKv();
 * const near: FaultyKvOptions = { kv, latencyMs: 1 };
 * const far: FaultyKvOptions = { kv, latencyMs: 80 };
 * const processes = [createFaultyKv(near), createFaultyKv(far)]; // two connections to the same store
 * console.log(processes.length); // 2
 * ```
 */
export interface FaultyKvOptions {
  /** The clock on which latency passes: the same as the limiter's. The default is the host's. */
  readonly clock?: Clock | undefined;
  /** The store behind it. The default is an in-memory store of its own. */
  readonly kv?: Kv | undefined;
  /**
   * How long a message and its answer take together, in milliseconds.
   *
   * @default {0}
   */
  readonly latencyMs?: number | undefined;
  /**
   * The seed of the {@link FaultRates}: the same seed and the same messages give the same faults.
   *
   * @default {1}
   */
  readonly seed?: number | undefined;
}

/**
 * How many messages were sent over a {@link FaultyKv}, including those that were lost.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type SentMessages } from "@ratesync/core/testing";
 *
 * const kv = createFaultyKv();
 * await kv.get("api");
 * const sent: SentMessages = kv.sent;
 * console.log(sent.get, sent.total); // 1 1
 * ```
 */
export type SentMessages = { readonly [operation in KvOperation]: number } & {
  /** All that are answered: everything but `announce`. */
  readonly total: number;
};

/**
 * A {@link Kv} that goes wrong as a test says. Made by {@link createFaultyKv}.
 *
 * @example
 * ```ts
 * import { createFaultyKv, type FaultyKv } from "@ratesync/core/testing";
 *
 * const kv: FaultyKv = createFaultyKv();
 * kv.failNext("conflict", { times: 2, operation: "compareAndSet" }); // a busy key
 * kv.setFaults({ answer_lost: 0.1 }); // a bad network
 * kv.isDown = true; // an outage
 * kv.clearFaults(); // all is well again
 * ```
 */
export interface FaultyKv extends Kv {
  /** How long a message and its answer take together, in milliseconds. May be changed at any time. */
  latencyMs: number;
  /** Whether it is unreachable: everything that is sent is lost. May be changed at any time. */
  isDown: boolean;
  /** How many messages were sent. */
  readonly sent: SentMessages;
  /**
   * Lets the next message, or the next ones, go wrong. Faults happen in the order in which they were requested, and
   * before anything that {@link FaultyKv.setFaults} says.
   *
   * @throws {InvalidArgumentError} if there is no such fault, or `times` is not a positive integer.
   */
  failNext(fault: Fault | FaultName, options?: FailNextOptions): void;
  /**
   * Lets messages go wrong from now on: at random, or as a function says. Replaces what was set before.
   *
   * @throws {InvalidArgumentError} if the rates are not probabilities.
   */
  setFaults(faults: FaultRates | FaultScript): void;
  /** Ends all faults and outages. The latency stays. */
  clearFaults(): void;
  /** Calls `onHint` when a hint comes that something under `key` was released. See {@link Kv.wake}. */
  wake(key: string, onHint: () => void): Promise<AsyncDisposable>;
  /** Announces that something under `key` was released. See {@link Kv.announce}. */
  announce(key: string): void;
}

interface PlannedFault extends FailNextOptions {
  readonly fault: Fault;
  left: number;
}

const NAMES = namesOf<FaultyKvOptions>({ clock: true, kv: true, latencyMs: true, seed: true });
const KINDS: readonly Fault["kind"][] = [
  "request_lost",
  "answer_lost",
  "request_late",
  "answer_late",
  "error",
  "refused",
  "conflict",
];

/**
 * A store in memory, or in front of any other one, that goes wrong as a test says: latency, lost and late messages,
 * conflicts, errors, outages. It passes hints on as the store behind it does.
 *
 * Everything is deterministic: faults are given one by one, by a function, or drawn from a seed. On a
 * {@link createVirtualClock} all of it takes no time.
 *
 * @throws {InvalidArgumentError} if the latency is not a number of milliseconds.
 *
 * @example What does our code do when an answer is lost?
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 * import { createFaultyKv, createVirtualClock } from "@ratesync/core/testing";
 *
 * const clock = createVirtualClock();
 * const kv = createFaultyKv({ clock, latencyMs: 2 });
 * const rateSync = createRateSync({ clock });
 * rateSync.configureStore("store", { kv, clock });
 * rateSync.configureLimiter("api", { store: "store", ratePerSecond: 1, backendTimeoutMs: 100 });
 *
 * kv.failNext("answer_lost"); // the permit is written, and the limiter does not hear of it
 * const permit = await clock.runUntil(rateSync.acquire("api"));
 * console.log(permit.degraded, kv.sent.compareAndSet); // false 2
 * ```
 */
export function createFaultyKv(options: FaultyKvOptions = {}): FaultyKv {
  const { clock = systemClock, seed = 1 } = checkOptions(options, NAMES);
  const behind = options.kv ?? memoryKv(clock);
  const sent = { get: 0, compareAndSet: 0, delete: 0, keys: 0, announce: 0 };
  const random = seededRandom(seed);
  const none: FaultScript = () => undefined;
  let latencyMs = checkMs("latencyMs", options.latencyMs ?? 0);
  let planned: PlannedFault[] = [];
  let script: FaultScript = none;

  function faultOf(message: KvMessage): Fault | undefined {
    const { operation, key } = message;
    sent[operation]++;
    if (faulty.isDown) return { kind: "request_lost" };
    const plan = planned.find((plan) =>
      (plan.operation === undefined ? operation !== "announce" : plan.operation === operation) &&
      (plan.key === undefined || plan.key === key)
    );
    if (plan) {
      if (--plan.left <= 0) planned = planned.filter((other) => other !== plan);
      return plan.fault;
    }
    const fault = script(message);
    return fault ? checkFault(fault) : undefined;
  }

  function pause(ms: number): Promise<void> {
    return ms > 0 ? clock.sleep(ms) : Promise.resolve();
  }

  async function send<T>(message: KvMessage, apply: () => Promise<T>): Promise<T> {
    const fault = faultOf(message);
    const halfMs = latencyMs / 2;
    await pause(halfMs);
    if (fault?.kind === "request_lost") return await unanswered();
    if (fault?.kind === "refused") {
      await pause(halfMs);
      throw new StoreUnavailableError("it refused the request, as the test told it to.", {
        store: "faulty",
        outcome: "not_applied",
      });
    }
    if (fault?.kind === "request_late") await pause(fault.byMs);
    if (fault?.kind === "conflict" && message.operation === "compareAndSet") await overtake(message.key);
    if (fault?.kind === "error") {
      if (fault.applied) await apply();
      await pause(halfMs);
      throw new Error(`The faulty store failed with ${message.operation} of '${message.key}', as the test told it to.`);
    }
    const answer = await apply();
    if (fault?.kind === "answer_lost") return await unanswered();
    if (fault?.kind === "answer_late") await pause(fault.byMs);
    await pause(halfMs);
    return answer;
  }

  /** Somebody else writes the key: the same value, so that nothing changes but its revision. */
  async function overtake(key: string): Promise<void> {
    const entry = await behind.get(key);
    if (entry) await behind.compareAndSet(key, entry.value, entry.revision);
  }

  const faulty: FaultyKv = {
    get latencyMs() {
      return latencyMs;
    },
    set latencyMs(ms) {
      latencyMs = checkMs("latencyMs", ms);
    },
    isDown: false,
    get sent() {
      const { announce, ...answered } = sent;
      const total = Object.values(answered).reduce((sum, count) => sum + count, 0);
      return { ...answered, announce, total };
    },
    failNext(fault, { times = 1, operation, key } = {}) {
      if (!Number.isInteger(times) || times < 1) throw wrong("times", "an integer >= 1", times);
      planned.push({ fault: checkFault(fault), left: times, operation, key });
    },
    setFaults(faults) {
      script = typeof faults === "function" ? faults : drawFrom(checkRates(faults), random);
    },
    clearFaults() {
      planned = [];
      script = none;
      faulty.isDown = false;
    },
    get: (key) => send({ operation: "get", key }, () => behind.get(key)),
    compareAndSet(key, value, expected, ttlMs) {
      const copy = value.slice(); // it may arrive after the caller has changed it
      return send<CasResult>(
        { operation: "compareAndSet", key },
        () => behind.compareAndSet(key, copy, expected, ttlMs),
      );
    },
    delete: (key) => send({ operation: "delete", key }, () => behind.delete(key)),
    async *keys(prefix = "") {
      const listing = await send({ operation: "keys", key: prefix }, async () => {
        const keys: string[] = [];
        for await (const key of behind.keys(prefix)) keys.push(key);
        return keys;
      });
      yield* listing;
    },
    async wake(key, onHint) {
      let listens = true;
      const hear = async () => {
        await pause(latencyMs / 2);
        if (listens && !faulty.isDown) onHint();
      };
      const hints = await behind.wake?.(key, () => void hear());
      return {
        async [Symbol.asyncDispose]() {
          listens = false;
          await hints?.[Symbol.asyncDispose]();
        },
      };
    },
    announce(key) {
      const fault = faultOf({ operation: "announce", key });
      let lateMs = 0;
      if (fault?.kind === "request_late" || fault?.kind === "answer_late") lateMs = fault.byMs;
      else if (fault && fault.kind !== "conflict") return;
      void pause(latencyMs / 2 + lateMs).then(() => behind.announce?.(key));
    },
  };
  return faulty;
}

function unanswered(): Promise<never> {
  return new Promise(() => {});
}

function checkFault(given: Fault | FaultName): Fault {
  const fault = typeof given === "string" ? { kind: given } : given;
  if (!KINDS.includes(fault.kind)) throw wrong("fault", `one of ${KINDS.join(", ")}`, fault.kind);
  if (fault.kind === "request_late" || fault.kind === "answer_late") checkMs("byMs", fault.byMs);
  return fault;
}

function checkMs(field: string, ms: unknown): number {
  if (typeof ms === "number" && ms >= 0 && ms < Infinity) return ms;
  throw wrong(field, "milliseconds: a finite number >= 0", ms);
}

const RATE_NAMES: ReadonlySet<string> = new Set([...KINDS, "lateByMs"]);

function checkRates(rates: FaultRates): FaultRates {
  return checkOptions(rates, RATE_NAMES, "an object, or a function");
}

/** A script that draws faults at random. */
function drawFrom({ lateByMs = 100, ...rates }: FaultRates, random: () => number): FaultScript {
  checkMs("lateByMs", lateByMs);
  for (const kind of KINDS) {
    const rate = rates[kind];
    if (rate !== undefined && !(rate >= 0 && rate <= 1)) throw wrong(kind, "a number from 0 to 1", rate);
  }
  const together = KINDS.reduce((sum, kind) => sum + (rates[kind] ?? 0), 0);
  // Decimal fractions that should add up to 1 do not always.
  if (together > 1 + 1e-9) throw wrong("faults", "probabilities that are not more than 1 together", together);
  return () => {
    let drawn = random();
    for (const kind of KINDS) {
      drawn -= rates[kind] ?? 0;
      if (drawn >= 0) continue;
      return kind === "request_late" || kind === "answer_late" ? { kind, byMs: lateByMs } : kind;
    }
    return undefined;
  };
}

function wrong(field: string, expected: string, received: unknown): InvalidArgumentError {
  return wrongArgument("The faulty store cannot do this", field, expected, received);
}
