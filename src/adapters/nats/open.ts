import type { NatsConnection } from "@nats-io/nats-core";
import type { Clock } from "../../core/clock.ts";
import { ConfigValidationError, StoreUnavailableError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import type { Peers } from "../../core/peers.ts";
import { systemClock } from "../system_clock.ts";
import type { Bucket, BucketWish } from "./bucket.ts";
import { createServerClock, type ServerClock, timeSource } from "./clock.ts";
import { connectNats } from "./connect.ts";
import { whileLeaderless } from "./election.ts";
import { type Circumstances, openingProblem, saysElection, toStoreError } from "./errors.ts";
import type { NatsKv } from "./kv.ts";
import { createLink } from "./link.ts";
import type { NatsConnectionLike } from "./options.ts";
import { openPartitions, partitionWishes } from "./partitions.ts";
import { createNatsPeers } from "./peers.ts";
import type { ConnectionPlan } from "./plan.ts";

/** What opening a store needs to know. */
export interface OpenRequest {
  /** The id of the store. */
  readonly store: string;
  /** A connection that is ready, or how to make one. */
  readonly source: NatsConnectionLike | ConnectionPlan;
  /** The JetStream domain of the buckets, if it is not that of the server. */
  readonly domain: string | undefined;
  /** The bucket, or the first one. */
  readonly bucket: BucketWish;
  /** How many buckets the keys are spread over. */
  readonly partitions: number;
  /** How long opening may take, and every request afterwards. */
  readonly timeoutMs: number;
  /** Whether to keep the server's time. */
  readonly serverClock: boolean;
  /** This host's clock. */
  readonly local: Clock;
  /** Where to report. */
  readonly logger: Logger;
  /** Is told in a sentence what opening waits for. */
  readonly onWait: (problem: string) => void;
}

/** A store that is open. */
export interface OpenedNats {
  readonly connection: NatsConnection;
  /** Its bucket, or what is true of all its buckets. */
  readonly bucket: Bucket;
  /** The values. */
  readonly kv: NatsKv;
  /** How the processes on the bucket talk to each other. */
  readonly peers: Peers;
  /** The server's clock, measured, unless this host's is to be used. */
  readonly clock: ServerClock | undefined;
  /** With this host's clock: looks at what has become of the buckets, if it is time for that. */
  readonly lookAround: (() => void) | undefined;
  /**
   * Measures the server's clock if it is stale, repeatedly while nobody answers for the bucket, which is created again if
   * the server has lost it and that is wanted. Rejects if the time cannot be learnt: nothing must be decided by such a
   * clock, because others would rely on what it says.
   */
  refreshClock(): Promise<void>;
  /** A number that changes whenever the connection is lost, or another bucket is found under the same name. */
  readonly session: number;
  /** What is wrong with the connection at this moment. */
  problem(): string | undefined;
  /** Closes the connection if it was opened here. */
  close(): Promise<void>;
}

/** A store that is used looks at one of its buckets at most this often: once for all samples of the time. */
const LOOK_EVERY_MS = 1_000;

/**
 * Connects, finds or creates the buckets, and measures the server's clock. If any of it fails or takes too long, what
 * was opened on the way is closed again.
 */
export function openNats(request: OpenRequest): Promise<OpenedNats> {
  const at: Circumstances = {
    store: request.store,
    server: serverOf(request.source),
    domain: request.domain,
    bucket: request.bucket.name,
    doing: "connect",
    timeoutMs: request.timeoutMs,
  };
  return new Promise((resolve, reject) => {
    let late = false;
    let doing: Circumstances["doing"] = "connect";
    const begin = (what: typeof doing) => {
      doing = what;
      if (!late) request.onWait(openingProblem({ ...at, doing }));
    };
    begin("connect");
    const timer = setTimeout(() => {
      late = true;
      reject(toStoreError(Object.assign(new Error("timeout"), { name: "TimeoutError" }), { ...at, doing }));
    }, request.timeoutMs);
    openInTurn(request, at, () => begin("bind")).then((opened) => {
      clearTimeout(timer);
      if (late) void opened.close();
      else resolve(opened);
    }, (error) => {
      clearTimeout(timer);
      // configuration errors already say what is wrong
      reject(error instanceof ConfigValidationError ? error : toStoreError(error, at));
    });
  });
}

/** `onConnected`: called when further delays are no longer the connection's fault. */
async function openInTurn(request: OpenRequest, at: Circumstances, onConnected: () => void): Promise<OpenedNats> {
  const { source, store, logger, timeoutMs } = request;
  const owned = isPlan(source);
  // What was handed in is a NatsConnection, though maybe of a different copy of nats-core.
  const connection = owned ? await connectNats(source, store, timeoutMs) : source as NatsConnection;
  const link = createLink(connection, at, logger, owned);
  const peers = createNatsPeers(link, request.bucket.name);
  const close = async () => {
    peers.release();
    link.release();
    if (owned) await closeConnection(connection, timeoutMs);
  };
  try {
    if (connection.isClosed()) {
      throw new StoreUnavailableError(
        `the connection to ${at.server} that was handed in is closed. Open another one.`,
        {
          store,
          outcome: "not_applied",
        },
      );
    }
    onConnected();
    const bind = () => openPartitions(link, request.bucket, request.partitions, logger);
    const values = await whileLeaderless(bind, saysElection, timeoutMs / 2, systemClock);
    const { bucket } = values;
    const monotonic = () => performance.now();
    const names = partitionWishes(request.bucket, request.partitions).map(({ name }) => name);
    const askTime = timeSource(link, bucket, names, monotonic, values.saw);
    // The information about the first bucket comes with the time.
    const lookAround = inTurn(request.serverClock ? names.slice(1) : names, monotonic, async (name) => {
      const information = await link.about(name).ask("read", `STREAM.INFO.KV_${name}`);
      if (information) await values.saw(name, information);
    });
    const askAndLook = () => askTime().finally(lookAround);
    const clock = request.serverClock ? createServerClock(askAndLook, request.local, monotonic) : undefined;
    await clock?.measure();
    // it may have led to another server, with a different clock
    if (clock !== undefined) link.onReconnect(() => void clock.measure().catch(() => {}));
    logger.info(`Store '${store}': open at ${connection.getServer()} (nats-server ${bucket.serverVersion})`);
    return {
      connection,
      get bucket() {
        return values.bucket;
      },
      kv: values.kv,
      peers,
      clock,
      lookAround: clock === undefined ? lookAround : undefined,
      // Without the time nothing is decided, so no other call would find out that the server has lost the bucket.
      refreshClock: () => clock === undefined ? Promise.resolve() : values.patiently(() => clock.refresh()),
      get session() {
        return link.losses + values.replacements;
      },
      problem: () => link.problem,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Calls `look` with the next of the names, unless it did so a moment ago. */
function inTurn(names: readonly string[], monotonic: () => number, look: (name: string) => Promise<void>): () => void {
  let turn = 0;
  let due = -Infinity;
  return () => {
    const at = monotonic();
    const name = names[turn % names.length];
    if (at < due || name === undefined) return;
    due = at + LOOK_EVERY_MS;
    turn++;
    // A bucket that nobody answers for fails the calls that need it.
    look(name).catch(() => {});
  };
}

/** Sends what is on its way first, unless the server does not take it. */
async function closeConnection(connection: NatsConnection, timeoutMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tired = new Promise<void>((resolve) => timer = setTimeout(resolve, timeoutMs));
  await Promise.race([connection.drain().catch(() => {}), tired]);
  clearTimeout(timer);
  await connection.close().catch(() => {});
}

function isPlan(source: NatsConnectionLike | ConnectionPlan): source is ConnectionPlan {
  return "servers" in source;
}

function serverOf(source: NatsConnectionLike | ConnectionPlan): string {
  if (!isPlan(source)) return source.getServer() || "the server";
  return source.servers.map((server) => server.replace(/^wss?:\/\/([^/?#]*).*$/s, "$1")).join(", ");
}
