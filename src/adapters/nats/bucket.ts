import { ConfigValidationError, StoreUnavailableError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import { missingBucket } from "./errors.ts";
import { type Answer, isAnswer, type Link } from "./link.ts";

/** What a bucket should be like. */
export interface BucketWish {
  /** The name of the Key-Value bucket; its stream has `KV_` before it. */
  readonly name: string;
  /** Whether to create it if it is missing. */
  readonly autoCreate: boolean;
  /** How many servers keep it. */
  readonly replicas: number;
  /** Where it is kept. */
  readonly storage: "file" | "memory";
  /** After how many milliseconds without a write it forgets a key. */
  readonly ttlMs: number;
  /** Which part of the store's keys it holds; `undefined`: all of them. */
  readonly partition?: Partition | undefined;
}

/** Which part of a store's keys a bucket holds. */
export interface Partition {
  /** Its number, from 0. */
  readonly index: number;
  /** How many there are. */
  readonly of: number;
}

/** What a bucket is like. */
export interface Bucket {
  readonly name: string;
  /** After how many milliseconds without a write it forgets a key, if ever. */
  readonly retentionMs: number | undefined;
  /** Whether a value may carry a time to live of its own. */
  readonly allowMsgTtl: boolean;
  /** The version of the server that the connection led to. */
  readonly serverVersion: string;
  /** When it was created, as the server says it: another bucket of the same name has another time. */
  readonly created: unknown;
}

const STREAM_NOT_FOUND = 10_059;
const STREAM_NAME_IN_USE = 10_058;
const SUBJECTS_OVERLAP = 10_065;
const NANOSECONDS = 1e6;

/** The first version whose compare-and-set is right on replicated buckets (nats-server#4320). */
const REPLICATED_CAS = [2, 9, 21] as const;
const MESSAGE_TTL = [2, 11, 0] as const;

function isOverlap(error: unknown): boolean {
  const cause: unknown = error instanceof StoreUnavailableError ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && cause.code === SUBJECTS_OVERLAP;
}

/** Whether `version` (`2.10.27`, `2.12.0-RC.1`) is `wanted` or later. An unknown version is not. */
export function isAtLeast(version: string, wanted: readonly [number, number, number]): boolean {
  const found = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number) ?? [];
  for (const [i, want] of wanted.entries()) {
    const have = found[i] ?? -1;
    if (have !== want) return have > want;
  }
  return true;
}

/**
 * Finds the bucket, or creates it if that is wanted. An existing one is used as it is.
 *
 * @throws {StoreUnavailableError} if it is missing, or cannot be used safely.
 * @throws {ConfigValidationError} if it holds a different part of the keys from the one wanted.
 */
export async function bindBucket(link: Link, wish: BucketWish, logger: Logger): Promise<Bucket> {
  const info = `STREAM.INFO.KV_${wish.name}`;
  let found = await link.ask("bind", info, undefined, STREAM_NOT_FOUND);
  const serverVersion = link.connection.info?.version ?? "";
  const refuse = (replicas: number, whose: string) => {
    if (replicas <= 1 || isAtLeast(serverVersion, REPLICATED_CAS)) return;
    throw new StoreUnavailableError(
      `${whose} ${replicas} replicas, and nats-server ${serverVersion} breaks compare-and-set on replicated buckets ` +
        `(fixed in ${REPLICATED_CAS.join(".")}): limits would not hold. Upgrade the servers, or use replicas = 1.`,
      { store: link.at.store, outcome: "not_applied" },
    );
  };
  if (found === undefined) {
    if (!wish.autoCreate) {
      const description = wish.partition && describePartition(wish.partition);
      const advice = missingBucket({ ...link.at, bucket: wish.name }, description);
      throw new StoreUnavailableError(advice, { store: link.at.store, outcome: "not_applied" });
    }
    refuse(wish.replicas, "'replicas' asks for");
    const config = streamConfig(wish, isAtLeast(serverVersion, MESSAGE_TTL));
    try {
      found = await link.ask("bind", `STREAM.CREATE.KV_${wish.name}`, config, STREAM_NAME_IN_USE);
      if (found !== undefined) logger.info(`Store '${link.at.store}': created the KV bucket '${wish.name}'`);
    } catch (error) {
      if (!isOverlap(error)) throw error;
      // the stream that already has the subjects may be this one, which somebody else has just created
      found = await link.ask("bind", info, undefined, STREAM_NOT_FOUND);
      if (found === undefined) throw error;
    }
    // somebody else created it in between, with other settings
    found ??= await link.ask("bind", info) ?? {};
  }
  const config = configIn(found);
  checkPartition(wish, config["description"], link.at.store);
  const fault = unusable(link, wish.name, found);
  if (fault) throw fault;
  const differences = differencesFrom(wish, config);
  if (differences.length > 0) {
    logger.warn(
      `Store '${link.at.store}': the KV bucket '${wish.name}' exists with other settings and is used as it is: ` +
        `${differences.join(", ")}. Make the configuration and the bucket agree`,
    );
  }
  const replicas = numberIn(config, "num_replicas", 1);
  refuse(replicas, `the KV bucket '${wish.name}' has`);
  return { name: wish.name, serverVersion, ...settingsIn(found) };
}

/** Why no limit can be kept in the bucket that this information is about, if that is so. */
export function unusable(link: Link, name: string, information: Answer): StoreUnavailableError | undefined {
  const fault = faultOf(configIn(information));
  if (fault === undefined) return undefined;
  return new StoreUnavailableError(`the stream 'KV_${name}' ${fault}. Use another bucket, or create it anew.`, {
    store: link.at.store,
    outcome: "not_applied",
  });
}

/** Whether this information is about another bucket of the same name, or about one with other settings by now. */
export function hasChanged(bucket: Bucket, information: Answer): boolean {
  const { created, retentionMs, allowMsgTtl } = settingsIn(information);
  return created !== bucket.created || retentionMs !== bucket.retentionMs || allowMsgTtl !== bucket.allowMsgTtl;
}

function settingsIn(information: Answer): Pick<Bucket, "created" | "retentionMs" | "allowMsgTtl"> {
  const config = configIn(information);
  const maxAge = numberIn(config, "max_age", 0);
  return {
    created: information["created"],
    retentionMs: maxAge > 0 ? maxAge / NANOSECONDS : undefined,
    allowMsgTtl: config["allow_msg_ttl"] === true,
  };
}

function configIn(information: Answer): Answer {
  return isAnswer(information["config"]) ? information["config"] : {};
}

/** Why no limit can be kept in a stream with this configuration, if that is so. */
function faultOf(config: Answer): string | undefined {
  if (config["mirror"] !== undefined) return "is a mirror, so nothing can be written to it";
  if (config["sealed"] === true) return "is sealed, so nothing can be written to it any more";
  if (config["no_ack"] === true) return "does not acknowledge what is written to it (no_ack)";
  if (config["discard_new_per_subject"] === true) return "lets no value replace another one (discard_new_per_subject)";
  const retention = config["retention"] ?? "limits";
  return retention === "limits" ? undefined : `keeps nothing that is not read (retention: ${retention})`;
}

/** What the description of a bucket says about its keys. Every server keeps the description, and it never expires. */
function describePartition({ index, of }: Partition): string {
  return `ratesync partition ${index} of ${of}`;
}

/** A process that spreads keys differently looks for them elsewhere, and every limit would count twice. */
function checkPartition({ name, partition }: BucketWish, description: unknown, store: string): void {
  const found = /^ratesync partition \d+ of \d+$/.exec(typeof description === "string" ? description : "")?.[0];
  const wanted = partition && describePartition(partition);
  if (found === wanted) return;
  throw new ConfigValidationError(
    `Store '${store}': the KV bucket '${name}' ${
      found === undefined ? "is not one of several" : `is '${found}'`
    }, and ` +
      `this process wants ${
        wanted === undefined ? "all keys in one bucket" : `'${wanted}'`
      }: every limit would count ` +
      "twice. Give all processes of a store the same number of partitions. To change it, use another bucket name, or " +
      "stop all of them and delete the buckets",
    {
      field: `stores.${store}.partitions`,
      expected: wanted === undefined ? "a bucket without partitions" : `a bucket with the description '${wanted}'`,
      received: found === undefined ? "a bucket without partitions" : `'${found}'`,
    },
  );
}

/** A KV bucket is a stream with these settings, which are those of the nats CLI and nats.js. */
function streamConfig(wish: BucketWish, allowMsgTtl: boolean): Answer {
  return {
    name: `KV_${wish.name}`,
    ...wish.partition ? { description: describePartition(wish.partition) } : {},
    subjects: [`$KV.${wish.name}.>`],
    retention: "limits",
    discard: "new",
    storage: wish.storage,
    num_replicas: wish.replicas,
    max_msgs_per_subject: 1,
    max_age: nanosecondsOf(wish.ttlMs),
    duplicate_window: nanosecondsOf(Math.min(wish.ttlMs, 120_000)),
    max_msgs: -1,
    max_bytes: -1,
    max_msg_size: -1,
    max_consumers: -1,
    deny_delete: true,
    allow_rollup_hdrs: true,
    // servers other than the leader may be behind
    allow_direct: false,
    ...allowMsgTtl ? { allow_msg_ttl: true } : {},
  };
}

/** How an existing bucket differs from what was wanted, in words. */
function differencesFrom(wish: BucketWish, config: Answer): string[] {
  const isBounded = numberIn(config, "max_msgs", -1) > 0 || numberIn(config, "max_bytes", -1) > 0;
  const facts: [string, unknown, unknown][] = [
    // With no room left, it forgets a limit that counts for one that is asked for.
    ["discard", isBounded ? config["discard"] ?? "old" : "new", "new"],
    ["history", numberIn(config, "max_msgs_per_subject", -1), 1],
    ["TTL", seconds(numberIn(config, "max_age", 0)), seconds(nanosecondsOf(wish.ttlMs))],
    ["replicas", numberIn(config, "num_replicas", 1), wish.replicas],
    ["storage", config["storage"], wish.storage],
  ];
  return facts.flatMap(([what, is, wanted]) => is === wanted ? [] : [`${what} ${is} instead of ${wanted}`]);
}

function nanosecondsOf(ms: number): number {
  return Math.round(ms * NANOSECONDS);
}

function seconds(nanoseconds: number): string {
  return nanoseconds > 0 ? `${nanoseconds / NANOSECONDS / 1_000} s` : "unlimited";
}

function numberIn(config: Answer, name: string, otherwise: number): number {
  const value = config[name];
  return typeof value === "number" ? value : otherwise;
}
