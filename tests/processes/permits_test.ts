import { assert, assertEquals, assertGreaterOrEqual, assertLess, assertStringIncludes } from "@std/assert";
import { createInterface } from "node:readline";
import process from "node:process";
import { test } from "node:test";
import { startChild } from "../support/child.ts";
import { forEachServer, LIMIT, type Signal, startServer } from "../support/nats_server.ts";
import { freshBucket } from "../support/nats_store.ts";
import type {
  CancelReport,
  PermitAnswer,
  PermitOrder,
  PermitOrders,
  PermitRequest,
} from "../support/permit_process.ts";

/** A process that the machine stops for two thirds of it loses its permits; who waits for its end waits as long. */
const LEASE_MS = 3_000;
/** By how much the clock of a store and that of its host may disagree. */
const CLOCK_ERROR_MS = 50;

const now = () => performance.timeOrigin + performance.now();
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** A process that obeys, until it is disposed of. */
interface PermitProcess extends AsyncDisposable {
  readonly orders: PermitOrders;
  /** A signal for the process; after SIGKILL resolves when it is gone. */
  kill(signal: Signal): Promise<void>;
}

function startPermitProcess(order: PermitOrder): PermitProcess {
  const child = startChild("tests/support/permit_process.ts", JSON.stringify(order));
  const { stdin, stdout, pid } = child;
  assert(stdin && stdout && pid !== undefined);
  const asked = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let gone = false;
  const exited = new Promise<void>((resolve) =>
    child.once("exit", () => {
      gone = true;
      for (const { reject } of asked.values()) reject(new Error("the process has ended"));
      resolve();
    })
  );
  stdin.on("error", () => {}); // it was killed with an order on its way
  createInterface({ input: stdout }).on("line", (line) => {
    const { id, value, error }: PermitAnswer = JSON.parse(line);
    const call = asked.get(id);
    asked.delete(id);
    if (error === undefined) call?.resolve(value);
    else call?.reject(new Error(error));
  });
  let last = 0;
  const ask = (order: keyof PermitOrders) => <T>(...args: readonly unknown[]): Promise<T> => {
    const answer = new Promise<T>((resolve, reject) => {
      if (gone) return reject(new Error("the process has ended"));
      const request: PermitRequest = { id: ++last, order, args };
      asked.set(request.id, { resolve: (value) => resolve(value as T), reject }); // the process keeps to PermitOrders
      stdin.write(JSON.stringify(request) + "\n");
    });
    answer.catch(() => {}); // a test that has failed does not wait for it any more
    return answer;
  };
  const kill = async (signal: Signal) => {
    if (!gone) process.kill(pid, signal);
    if (signal === "SIGKILL") await exited;
  };
  return {
    orders: {
      open: ask("open"),
      acquire: ask("acquire"),
      tryAcquire: ask("tryAcquire"),
      release: ask("release"),
      isLost: ask("isLost"),
      whenLost: ask("whenLost"),
      state: ask("state"),
      cancel: ask("cancel"),
      loop: ask("loop"),
      trips: ask("trips"),
    },
    kill,
    [Symbol.asyncDispose]: () => kill("SIGKILL"),
  };
}

/** Processes that share one limit, connected; all of them end with the block. */
async function startProcesses(url: string, count: number, maxConcurrent: number): Promise<Processes> {
  const order: PermitOrder = { url, bucketName: freshBucket(), maxConcurrent, leaseMs: LEASE_MS };
  const all = Array.from({ length: count }, () => startPermitProcess(order));
  const dispose = async () => {
    await Promise.all(all.map((one) => one[Symbol.asyncDispose]()));
  };
  try {
    await Promise.all(all.map(({ orders }) => orders.open()));
  } catch (error) {
    await dispose();
    throw error;
  }
  return { all, [Symbol.asyncDispose]: dispose };
}

interface Processes extends AsyncDisposable {
  readonly all: readonly PermitProcess[];
}

async function usage({ orders }: PermitProcess): Promise<number> {
  return (await orders.state()).currentUsage;
}

function median(values: readonly number[]): number {
  const middle = values.toSorted((a, b) => a - b)[values.length >> 1];
  assert(middle !== undefined);
  return middle;
}

await forEachServer((server) => {
  server.test("kill -9 of a holder gives back its permits within the lease, and no others [CON-6, CON-7]", async () => {
    const { url } = await server.shared();
    await using processes = await startProcesses(url, 3, 3);
    const [victim, survivor, observer] = processes.all;
    assert(victim && survivor && observer);
    await survivor.orders.acquire("kept");
    await victim.orders.acquire("first");
    await victim.orders.acquire("second");
    // Past the first renewals.
    await sleep(LEASE_MS / 2);
    assertEquals(await observer.orders.tryAcquire("early"), false);
    await victim.kill("SIGKILL");
    const { currentUsage, resetAt } = await observer.orders.state();
    assertEquals(currentUsage, 3);
    assertLess(resetAt, now() + LEASE_MS + CLOCK_ERROR_MS);

    await observer.orders.acquire("first");
    while (now() < resetAt + CLOCK_ERROR_MS) await sleep(10);
    assertEquals(await observer.orders.tryAcquire("second"), true);
    // The survivor's permit is never given away, nor are those that were just taken.
    for (const until = now() + 1.2 * LEASE_MS; now() < until; await sleep(50)) {
      assertEquals(await observer.orders.tryAcquire("third"), false);
      assertEquals(await survivor.orders.isLost("kept"), false);
    }
    assertEquals(await usage(survivor), 3);
    assertEquals(await observer.orders.isLost("first"), false);
    await survivor.orders.release("kept");
    assertEquals(await usage(observer), 2);
    assertEquals(await observer.orders.tryAcquire("third"), true);
  });

  server.test("a holder that stood still past its lease learns it, and frees nobody else's permit [CON-5, CON-6]", async () => {
    const { url } = await server.shared();
    await using processes = await startProcesses(url, 3, 2);
    const [paused, other, observer] = processes.all;
    assert(paused && other && observer);
    await paused.orders.acquire("first");
    await paused.orders.acquire("second");
    const learned = paused.orders.whenLost("first");
    assertEquals(await paused.orders.isLost("first"), false);
    await paused.kill("SIGSTOP");
    await Promise.all([other.orders.acquire("first"), other.orders.acquire("second")]);
    // What it is told now it does as soon as it goes on, before anything else can tell it that time has passed.
    const released = paused.orders.release("second");
    await sleep(100);
    await paused.kill("SIGCONT");

    await released;
    const { lost, reason } = await learned;
    assertEquals(lost, true);
    assertStringIncludes(reason, "was lost");
    await paused.orders.release("first");
    for (const until = now() + LEASE_MS * 2 / 3; now() < until; await sleep(50)) {
      assertEquals(await observer.orders.tryAcquire("too many"), false);
      assertEquals(await paused.orders.tryAcquire("too many"), false);
    }
    assertEquals(await usage(observer), 2);
    assertEquals([await other.orders.isLost("first"), await other.orders.isLost("second")], [false, false]);
    await other.orders.release("first");
    await other.orders.release("second");
    assertEquals(await paused.orders.tryAcquire("first again"), true);
    assertEquals(await paused.orders.isLost("first again"), false);
    assertEquals(await usage(observer), 1);
  });

  server.test("300 acquires that are cancelled at any moment leave no permit behind [CON-8, TMO-7]", async () => {
    const { url } = await server.shared();
    await using processes = await startProcesses(url, 2, 5);
    const reports: CancelReport[] = [];
    const sum = (of: "cancelled" | "granted") => reports.reduce((total, report) => total + report[of], 0);
    const isOneSided = () => sum("cancelled") < 20 || sum("granted") < 20;
    // Where the store is slow few are granted before they are cancelled.
    for (let round = 0; round < 5 && isOneSided(); round++) {
      reports.push(...await Promise.all(processes.all.map(({ orders }) => orders.cancel(150, 400))));
    }
    const endedAt = now();
    assertEquals(reports.flatMap(({ errors }) => errors), []);
    assertEquals(sum("cancelled") + sum("granted"), 150 * reports.length);
    assert(!isOneSided(), `one-sided: ${JSON.stringify(reports)}`);
    const [one] = processes.all;
    assert(one);
    let left = await usage(one);
    for (; left > 0 && now() - endedAt < LEASE_MS; left = await usage(one)) await sleep(20);
    assertEquals(left, 0);
    for (let i = 0; i < 6; i++) assertEquals(await one.orders.tryAcquire(`${i}`), i < 5);
  });

  server.test("a permit is handed from one process to another in few round trips [CON-2]", async () => {
    const { url } = await server.shared();
    await using processes = await startProcesses(url, 2, 1);
    let [from, to] = processes.all;
    assert(from && to);
    const trips: number[] = [];
    const handOvers: number[] = [];
    await from.orders.acquire("0");
    for (let i = 0; i < 80; i++) {
      const taken = to.orders.acquire(`${i + 1}`);
      await sleep(20);
      trips.push(...await from.orders.trips(1), ...await to.orders.trips(1));
      await sleep(5);
      const released = await from.orders.release(`${i}`);
      handOvers.push(await taken - released);
      [from, to] = [to, from];
    }
    // There and back, so that it does not matter by how much the clocks of the two differ.
    const pairs = handOvers.flatMap((there, i) => i % 2 === 0 ? [(there + handOvers[i + 1]!) / 2] : []);
    const [trip, handOver] = [median(trips), median(pairs)];
    const ratio = handOver / trip;
    process.stderr.write(
      `nats-server ${server.version}: a permit is handed over in ${handOver.toFixed(2)} ms, which are ` +
        `${ratio.toFixed(1)} round trips of ${trip.toFixed(2)} ms\n`,
    );
    assert(handOver > 0, "it was taken before it was released");
    assertLess(ratio, 15);
  });
});

test(
  "a process with one caller gets its turn beside one with 20 that take every permit [CON-2, TB-9]",
  LIMIT,
  async () => {
    await using running = await startServer();
    await using processes = await startProcesses(running.url, 2, 1);
    const [many, one] = processes.all;
    assert(many && one);
    const [most, least] = await Promise.all([many.orders.loop(20, 5, 6_000), one.orders.loop(1, 5, 6_000)]);
    process.stderr.write(`20 callers in one process got ${most} permits, and one caller in another got ${least}\n`);
    assertGreaterOrEqual(least, 3);
    assertGreaterOrEqual(least, (most + least) / 21, "it got less than one of 21 callers");
    assertGreaterOrEqual(most, 20);
  },
);
