import { assert } from "@std/assert";
import type { ChildProcess } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createRateSync, natsStore } from "../../mod.ts";
import type { ChaosLimiter, ChaosOrder, ChaosStore, Entry } from "../support/chaos_process.ts";
import { type Call, type Pause, type Promised, type Run, unserved } from "../support/checker.ts";
import { startChild, stopped } from "../support/child.ts";
import { machineNow } from "../support/machine_clock.ts";
import { type RunningServer, startCluster, startServer } from "../support/nats_server.ts";
import { freshBucket } from "../support/nats_store.ts";
import type { Loss } from "../support/oracles.ts";
import { startProxy, type TcpProxy } from "../support/tcp_proxy.ts";

export const LEASE_MS = 1_000;
/** How long the store may take to answer. */
export const BACKEND_TIMEOUT_MS = 500;
export const RESERVE_AHEAD_MS = 400;
/** By how much starts and the clocks that they were taken with may be off on a busy machine. */
export const LATE_MS = 25;
/** Nothing takes this long: whoever waits for more than it waits for ever. */
const FOREVER_MS = 60_000;
/** A start that is recorded later than this after the limiter let it go was held up by the machine. */
const HELD_UP_MS = 5;

/** A start may be late by 0.8 of an interval. */
const RATE = { ratePerSecond: 40, burst: 4, slackMs: 20 };
const WINDOW = { limit: 20, windowMs: 600 };
const MAX_CONCURRENT = 3;

const common = { store: "nats", onFailure: "closed", reserveAheadMs: RESERVE_AHEAD_MS } as const;
const permits = { maxConcurrent: MAX_CONCURRENT, leaseMs: LEASE_MS };
const reserveAheadMs = RESERVE_AHEAD_MS;
const { ratePerSecond, burst } = RATE;
const RATE_COST = 2;

/** A limiter with every kind of limit alone, and one with all of them. */
export const LIMITERS: Readonly<Record<string, ChaosLimiter & { readonly promised: Promised }>> = {
  rate: {
    options: { ...common, ratePerSecond, burst },
    // Who was passed over reserves farther ahead.
    promised: { rates: [RATE], reserveAheadMs: reserveAheadMs + 1_000 * RATE_COST / ratePerSecond },
    callers: 2,
    mostCost: RATE_COST,
    holdMs: 0,
    longHoldMs: 0,
  },
  window: {
    options: { ...common, algorithm: "sliding_window", ...WINDOW },
    promised: { windows: [WINDOW], reserveAheadMs },
    callers: 2,
    mostCost: 3,
    holdMs: 0,
    longHoldMs: 0,
  },
  permits: {
    options: { ...common, ...permits },
    promised: { ...permits, reserveAheadMs },
    callers: 2,
    mostCost: 1,
    holdMs: 120,
    longHoldMs: 1.8 * LEASE_MS,
  },
  all: {
    options: {
      ...common,
      ...permits,
      ratePerSecond,
      burst,
      rates: [{ ...WINDOW, algorithm: "sliding_window" }],
    },
    promised: { ...permits, rates: [RATE], windows: [WINDOW], reserveAheadMs },
    callers: 2,
    mostCost: 2,
    holdMs: 80,
    longHoldMs: 1.4 * LEASE_MS,
  },
};

/** A process with callers. */
export interface ChaosProcess {
  readonly name: string;
  /** What stands between it and the server, if there is one server. */
  readonly proxy: TcpProxy | undefined;
  /** Whether it was not killed. */
  readonly isAlive: boolean;
  /** Lets it stand still. */
  pause(): Promise<void>;
  resume(): void;
  /** Ends it with -9. */
  kill(): Promise<void>;
}

/** Servers, processes that share limits on them, and everything that was seen. */
export interface World extends AsyncDisposable {
  readonly servers: readonly RunningServer[];
  readonly processes: readonly ChaosProcess[];
  /** The server that leads the bucket. */
  leader(): Promise<RunningServer>;
  /** Asks the leader to step down, and resolves when another one leads. */
  stepDown(): Promise<void>;
  /** Kills the only server with -9, and starts it again with nothing in its store. */
  forget(): Promise<void>;
  /** One more process. */
  start(): Promise<ChaosProcess>;
  /** Waits until every caller in every process that lives has got something that it asked for after now. */
  recovered(): Promise<void>;
  /** Lets all processes end, waits for them, and until everything that was taken has come back. */
  finish(): Promise<Run>;
  /** What was seen so far. */
  run(): Run;
}

/** What a {@link World} is like. */
export interface WorldOptions {
  /** `server`: one, behind a proxy for each process; `cluster`: three, and the bucket on all of them. */
  readonly where: "server" | "cluster";
  readonly version?: string | undefined;
  readonly processes?: number;
  /** Whether every process counts for itself: then limits do not hold, and the checker has to see that. */
  readonly apart?: boolean;
}

/** Starts servers and processes, and resolves when all of them are at work. */
export async function startWorld({ where, version, processes: count = 3, apart }: WorldOptions): Promise<World> {
  await using failing = new AsyncDisposableStack();
  const cleanup = new AsyncDisposableStack();
  failing.use(cleanup);
  const folder = mkdtempSync(join(tmpdir(), "ratesync-chaos-"));
  cleanup.defer(() => rmSync(folder, { recursive: true, force: true }));
  const cluster = where === "cluster" ? cleanup.use(await startCluster(3, { server: version })) : undefined;
  const storeDir = join(folder, "jetstream");
  const servers = cluster?.servers ?? [cleanup.use(await startServer({ server: version, storeDir }))];
  const [server] = servers;
  assert(server);
  const store: ChaosStore = {
    url: cluster?.url ?? server.url,
    bucketName: freshBucket(),
    replicas: servers.length,
    backendTimeoutMs: BACKEND_TIMEOUT_MS,
  };
  const processes: StartedProcess[] = [];
  const losses: Loss[] = [];
  let started = 0;
  cleanup.defer(async () => {
    await Promise.all(processes.map((one) => one.kill()));
  });

  const run = (): Run => ({
    limiters: Object.fromEntries(Object.entries(LIMITERS).map(([id, { promised }]) => [id, promised])),
    calls: processes.flatMap((one) => one.calls()),
    crashes: new Map(processes.flatMap(({ name, crashedAt }) => crashedAt === undefined ? [] : [[name, crashedAt]])),
    pauses: processes.flatMap(({ pauses }) => pauses),
    losses,
  });

  async function start(): Promise<ChaosProcess> {
    const name = `p${++started}`;
    const proxy = cluster ? undefined : cleanup.use(await startProxy(server!.port)); // it is there: see above
    const one = startProcess(name, proxy, {
      record: join(folder, name),
      store: {
        ...store,
        ...proxy ? { url: proxy.url } : {},
        ...apart ? { bucketName: freshBucket() } : {},
      },
      limiters: LIMITERS,
    });
    processes.push(one);
    await until(`process ${name} has opened its store`, () => one.isOpen());
    return one;
  }

  /** Asks the bucket's stream, as its leader answers it. */
  async function ask(what: "INFO" | "LEADER.STEPDOWN"): Promise<string | undefined> {
    const quiet = () => {};
    const asking = natsStore({ ...store, backendTimeoutMs: 5_000 }, {
      id: "asking",
      logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    });
    try {
      const connection = await asking.connection() as unknown as {
        request(subject: string, data?: string): Promise<{ json(): { cluster?: { leader?: string } } }>;
      }; // the connection of nats.js, of which this needs only so much
      return (await connection.request(`$JS.API.STREAM.${what}.KV_${store.bucketName}`)).json().cluster?.leader;
    } catch {
      return undefined;
    } finally {
      await asking.close();
    }
  }

  async function leader(): Promise<RunningServer> {
    let name: string | undefined;
    await until("the bucket has a leader", async () => (name = await ask("INFO")) !== undefined);
    const found = servers[Number(name?.slice(1))];
    assert(found, `no server ${name}`);
    return found;
  }

  await Promise.all(Array.from({ length: count }, () => start()));
  const world: World = {
    servers,
    processes,
    leader,
    async stepDown() {
      const before = await leader();
      await until("another server leads the bucket", async () => {
        await ask("LEADER.STEPDOWN");
        return await leader() !== before;
      });
    },
    async forget() {
      const from = machineNow();
      await server.kill("SIGKILL");
      rmSync(storeDir, { recursive: true, force: true });
      await server.restart();
      losses.push({ from, until: machineNow() });
    },
    start,
    async recovered() {
      const since = machineNow();
      await until(
        () => `these are served: ${unserved(run(), since).join(", ")}`,
        () => unserved(run(), since).length === 0,
      );
    },
    async finish() {
      await Promise.all(processes.map((one) => one.end()));
      await allFree({ ...store, backendTimeoutMs: 5_000 });
      return run();
    },
    run,
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  };
  await world.recovered();
  failing.move();
  return world;
}

interface StartedProcess extends ChaosProcess {
  readonly crashedAt: number | undefined;
  readonly pauses: readonly Pause[];
  isOpen(): boolean;
  calls(): readonly Call[];
  /** Lets it come to its end; throws if it does not end well by itself. */
  end(): Promise<void>;
}

function startProcess(name: string, proxy: TcpProxy | undefined, order: ChaosOrder): StartedProcess {
  const child: ChildProcess = startChild("tests/support/chaos_process.ts", JSON.stringify(order));
  const { pid, stdin } = child;
  const recorded = recordOf(name, order.record);
  assert(pid !== undefined && stdin);
  stdin.on("error", () => {}); // it is gone: its exit code says how
  let code: number | string | undefined;
  let crashedAt: number | undefined;
  const exited = new Promise<void>((resolve) =>
    child.once("exit", (status, signal) => {
      code = status ?? signal ?? "?";
      resolve();
    })
  );
  const paused: Pause[] = [];
  let pausedAt: number | undefined;
  const signal = (signal: "SIGSTOP" | "SIGCONT" | "SIGKILL") => code === undefined && process.kill(pid, signal);
  const resume = () => {
    if (pausedAt !== undefined) paused.push({ process: name, from: pausedAt, until: machineNow() });
    pausedAt = undefined;
    signal("SIGCONT");
  };
  return {
    name,
    proxy,
    get isAlive() {
      return crashedAt === undefined;
    },
    get crashedAt() {
      return crashedAt;
    },
    get pauses() {
      return [...paused, ...recorded.stalls()];
    },
    isOpen() {
      assert(code === undefined, `process ${name} has ended with ${code}`);
      return recorded.entries().some(([kind]) => kind === "opened");
    },
    calls: () => recorded.calls(),
    async pause() {
      signal("SIGSTOP");
      await stopped(pid);
      pausedAt = machineNow();
    },
    resume,
    async kill() {
      signal("SIGKILL");
      crashedAt ??= machineNow(); // that it is gone may be heard much later
      await exited;
    },
    async end() {
      if (crashedAt !== undefined) return;
      stdin.end();
      await until(`process ${name} ends`, () => code !== undefined);
      assert(code === 0, `process ${name} ended with ${code}: ${stuckIn(recorded)}`);
      assert(recorded.entries().some(([kind]) => kind === "closed"), `process ${name} did not close`);
    },
  };
}

/** What a process has recorded so far. It is read as it grows: whoever waits for something looks often. */
interface Recorded {
  entries(): readonly Entry[];
  calls(): readonly Call[];
  /** When the machine did not let it run. */
  stalls(): readonly Pause[];
}

function recordOf(process: string, file: string): Recorded {
  const entries: Entry[] = [];
  const calls = new Map<number, Call>();
  const stalls: Pause[] = [];
  let offset = 0;

  function read(): void {
    const bytes = bytesFrom(file, offset);
    // What comes after the last line end is still being written.
    const whole = bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
    offset += whole.length;
    for (const line of new TextDecoder().decode(whole).split("\n")) {
      if (line === "") continue;
      const entry: Entry = JSON.parse(line);
      entries.push(entry);
      noteCall(process, calls, entry);
      if (entry[0] === "stalled") stalls.push({ process, from: entry[1], until: entry[2] });
    }
  }

  return {
    entries() {
      read();
      return entries;
    },
    calls() {
      read();
      return [...calls.values()];
    },
    stalls() {
      read();
      return stalls;
    },
  };
}

function bytesFrom(path: string, offset: number): Uint8Array {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return new Uint8Array(); // it has not begun
  }
  try {
    const bytes = new Uint8Array(fstatSync(file).size - offset);
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, offset));
  } finally {
    closeSync(file);
  }
}

/** What a process that did not come to its end was doing. */
function stuckIn(recorded: Recorded): string {
  const waiting = recorded.calls().filter(({ answer, endedAt }) =>
    answer === undefined || (answer.kind === "granted" && endedAt === undefined)
  );
  const last = recorded.entries().slice(-5).map((entry) => JSON.stringify(entry)).join(" ");
  return `${waiting.map(({ limiter, caller }) => `${limiter} ${caller}`).join(", ")} at work, and last ${last}`;
}

function noteCall(process: string, calls: Map<number, Call>, entry: Entry): void {
  const change = (id: number, how: (call: Call) => Partial<Call>) => {
    const call = calls.get(id);
    assert(call, `process ${process} recorded something of a call ${id} that was not asked`);
    calls.set(id, { ...call, ...how(call) });
  };
  switch (entry[0]) {
    case "asked": {
      const [, id, askedAt, limiter, caller, cost] = entry;
      const nothing = { answer: undefined, endedAt: undefined, lost: false };
      calls.set(id, { process, limiter, caller, cost, askedAt, ...nothing });
      break;
    }
    case "granted": {
      const [, id, at, servedAt] = entry;
      const heldUp = at - servedAt > HELD_UP_MS ? { servedAt } : {};
      change(id, () => ({ answer: { at, kind: "granted", ...heldUp } }));
      break;
    }
    case "answered": {
      const [, id, at, kind] = entry;
      change(id, () => ({ answer: { at, kind } }));
      break;
    }
    case "ended":
      change(entry[1], ({ endedAt = entry[2] }) => ({ endedAt }));
      break;
    case "lost":
      change(entry[1], ({ endedAt = entry[2] }) => ({ endedAt, lost: true }));
  }
}

/** Waits until nothing of any limit is used or held any more. */
async function allFree(store: ChaosStore): Promise<void> {
  await using rateSync = createRateSync();
  rateSync.configureStore("nats", { engine: "nats", ...store });
  for (const [id, { options }] of Object.entries(LIMITERS)) {
    rateSync.configureLimiter(id, options);
    const isFree = () => rateSync.getLimiter(id).getState().then(({ currentUsage }) => currentUsage === 0, () => false);
    await until(`'${id}' is free again`, isFree);
  }
}

/** Waits for something that comes about sooner or later, and looks for it every so often. */
export async function until(
  what: string | (() => string),
  holds: () => boolean | Promise<boolean>,
  everyMs = 50,
): Promise<void> {
  for (const end = performance.now() + FOREVER_MS; !await holds();) {
    if (performance.now() > end) {
      throw new Error(`it never came about that ${typeof what === "string" ? what : what()}`);
    }
    await sleep(everyMs);
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
