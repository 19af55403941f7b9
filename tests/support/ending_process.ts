// A separate process that uses limiters in one of several ways. It has to end by itself after it has printed what it
// saw.
import process from "node:process";
import { createInterface } from "node:readline";
import { connect } from "@nats-io/transport-node";
import {
  acquire,
  close,
  configureLimiter,
  configureStore,
  createRateSync,
  type Permit,
  RateLimiterAcquisitionError,
  type RateSync,
  tryAcquire,
} from "../../mod.ts";
import { createVirtualClock, resetLimiter, useVirtualTime } from "../../src/testing/mod.ts";

/** What a process is told. */
export interface EndingOrder {
  readonly way: keyof typeof WAYS;
  /** Where the server is, if one is needed. */
  readonly url?: string;
  readonly bucketName?: string;
}

/** A lease so long that nobody waits for its end. */
export const LEASE_MS = 600_000;
/** For a server that goes on, whatever a busy machine does to it. */
const PATIENT_MS = 30_000;
/** For a server that goes away: long enough that it is used before, and short enough that the end can wait for it. */
const OUTAGE_MS = 1_500;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const say = (text: string) => void process.stdout.write(text + "\n");

/** Resolves when the test has said that it is time, and then stops listening. */
async function told(): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  await new Promise<void>((resolve) => lines.once("line", () => resolve()));
  lines.close();
  process.stdin.destroy();
}

function onNats({ url, bucketName }: EndingOrder, backendTimeoutMs = PATIENT_MS): RateSync {
  const rateSync = createRateSync();
  if (url === undefined || bucketName === undefined) throw new Error("it needs a server");
  const options = { url, bucketName, autoCreate: true, backendTimeoutMs } as const;
  rateSync.configureStore("nats", { engine: "nats", ...options });
  rateSync.configureLimiter("permits", { store: "nats", maxConcurrent: 3, leaseMs: LEASE_MS, onFailure: "closed" });
  // A caller that waits for it has reserved a moment that does not come before the end.
  const rate = { ratePerSecond: 0.02, burst: 2, reserveAheadMs: 600_000 };
  rateSync.configureLimiter("rate", { store: "nats", onFailure: "closed", ...rate });
  return rateSync;
}

async function endOf(waiting: Promise<Permit>): Promise<string> {
  try {
    await waiting;
    return "granted";
  } catch (error) {
    return error instanceof RateLimiterAcquisitionError ? error.reason : String(error);
  }
}

/** Uses everything: permits that are held and released, callers that wait for slots and for permits, keys. */
async function useAll(rateSync: RateSync): Promise<{ held: Permit[]; waiting: Promise<string>[] }> {
  const held = await Promise.all([1, 2, 3].map(() => rateSync.acquire("permits")));
  await held.pop()?.release();
  held.push(await rateSync.acquire("permits"), await rateSync.acquire("permits", { key: "alice" }));
  await Promise.all([rateSync.acquire("rate"), rateSync.acquire("rate", { key: "alice" })]);
  await rateSync.tryAcquire("rate");
  const waiting = ["permits", "permits", "rate", "rate", "rate"].map((id) => endOf(rateSync.acquire(id)));
  // Until they have asked and wait.
  await rateSync.getLimiter("permits").getState();
  await rateSync.getLimiter("rate").getState();
  return { held, waiting };
}

const WAYS = {
  async "memory, without close"() {
    configureStore("memory", { engine: "memory" });
    configureLimiter("rate", { store: "memory", ratePerSecond: 5, timeoutMs: 5_000 });
    configureLimiter("window", { store: "memory", algorithm: "sliding_window", limit: 2, windowMs: 3_600_000 });
    configureLimiter("permits", { store: "memory", maxConcurrent: 2, leaseMs: LEASE_MS });
    for (let i = 0; i < 3; i++) await acquire("rate", { key: "alice" });
    await acquire("rate");
    const waited = await acquire("rate");
    const window = [await tryAcquire("window"), await tryAcquire("window"), await tryAcquire("window")];
    // It is never released.
    const permit = await acquire("permits");
    const left = new AbortController();
    const aborted = endOf(acquire("permits").then(() => acquire("permits", { signal: left.signal })));
    left.abort();
    await aborted;
    say(`waited ${waited.waitedMs > 0}, ${window.map(({ allowed }) => allowed)}, lost ${permit.lost}`);
  },
  async "memory, who waits is served before the end"() {
    configureLimiter("rate", { ratePerSecond: 5 });
    configureLimiter("permits", { maxConcurrent: 1, leaseMs: LEASE_MS });
    await acquire("rate");
    void acquire("rate").then(() => say("served"));
    const permit = await acquire("permits");
    void acquire("permits").then(() => say("handed on"));
    setTimeout(() => permit.release(), 20);
  },
  async "memory, closed"() {
    configureLimiter("rate", { ratePerSecond: 0.01 });
    configureLimiter("permits", { maxConcurrent: 1, leaseMs: LEASE_MS });
    await acquire("rate");
    const permit = await acquire("permits");
    const waiting = [acquire("rate"), acquire("permits")].map(endOf);
    await tryAcquire("rate");
    await Promise.all([close(), close()]);
    say(`${await Promise.all(waiting)}, lost ${permit.lost}`);
  },
  async "nats, closed"(order: EndingOrder) {
    const rateSync = onNats(order);
    const { held, waiting } = await useAll(rateSync);
    await Promise.all([rateSync.close(), rateSync.close()]);
    await rateSync.close();
    say(`${await Promise.all(waiting)}, lost ${held.map(({ lost }) => lost)}`);
  },
  async "nats, used again after it was closed"(order: EndingOrder) {
    const rateSync = onNats(order);
    const before = rateSync.getLimiter("permits");
    for (let i = 0; i < 3; i++) {
      await rateSync.acquire("permits");
      await rateSync.close();
    }
    say(await endOf(before.acquire()));
  },
  async "nats, closed when told"(order: EndingOrder) {
    const rateSync = onNats(order, OUTAGE_MS);
    const isOpen = () => rateSync.initializeAllLimiters().then(() => true, () => false);
    while (!await isOpen()) await sleep(20);
    const { waiting } = await useAll(rateSync);
    say("ready");
    await told();
    await rateSync.close();
    const ends = new Set(await Promise.all(waiting));
    say([...ends].every((end) => ["closed", "backend"].includes(end)) ? "closed" : [...ends].join());
  },
  async "nats, of which nobody hears anything"(order: EndingOrder) {
    const rateSync = onNats(order, OUTAGE_MS);
    say(await endOf(rateSync.acquire("permits")));
    say(await endOf(rateSync.acquire("rate")));
    await rateSync.close();
  },

  async "nats, closed while it connects"(order: EndingOrder) {
    const rateSync = onNats(order);
    const waiting = [rateSync.acquire("permits"), rateSync.acquire("rate")].map(endOf);
    await Promise.resolve();
    await rateSync.close();
    say(`${await Promise.all(waiting)}`);
  },
  async "nats, over a connection that was handed in"({ url, bucketName }: EndingOrder) {
    const connection = await connect({ servers: url ?? "" });
    const rateSync = createRateSync();
    rateSync.configureStore("nats", { engine: "nats", connection, bucketName: bucketName ?? "", autoCreate: true });
    rateSync.configureLimiter("permits", { store: "nats", maxConcurrent: 3, leaseMs: LEASE_MS });
    await rateSync.acquire("permits");
    await rateSync.close();
    say(`closed ${connection.isClosed()}`);
    await connection.close();
  },
  async "memory, reset, and for a while in virtual time"() {
    const rateSync = createRateSync();
    rateSync.configureLimiter("permits", { maxConcurrent: 1, leaseMs: LEASE_MS });
    const held = await rateSync.acquire("permits");
    const waiting = rateSync.acquire("permits");
    await resetLimiter("permits", { rateSync });
    await waiting;
    const time = await useVirtualTime({ rateSync });
    const later = await rateSync.acquire("permits");
    const begun = time.now();
    await time.runUntil(
      Promise.all([time.sleep(LEASE_MS / 2).then(() => later.release()), rateSync.acquire("permits")]),
    );
    say(`lost ${held.lost}, after ${time.now() - begun} ms`);
    await time[Symbol.asyncDispose]();
    await rateSync.close();
  },
  "virtual time, in which nothing happens any more"() {
    void createVirtualClock().runUntil(new Promise(() => {}));
    say("waiting");
  },
  async "nats, without close"(order: EndingOrder) {
    const rateSync = onNats(order);
    await rateSync.acquire("rate");
    say("used");
  },
};

const [order] = process.argv.slice(2);
if (order !== undefined) {
  const given: EndingOrder = JSON.parse(order);
  await WAYS[given.way](given);
}
