import { ConfigValidationError, StoreUnavailableError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import { bindBucket, type Bucket, type BucketWish } from "./bucket.ts";
import type { NatsKv } from "./kv.ts";
import type { Link } from "./link.ts";
import { createPatientKv, type PatientKv } from "./patient.ts";

/**
 * Which of `partitions` buckets a key is in. This determines where the limits of every version and every process are,
 * so it never changes: the 32-bit FNV-1a hash of the key's ASCII characters, mixed by the finalizer of MurmurHash3
 * (because the low bits of FNV-1a alone say little), modulo the number of partitions.
 */
export function partitionOf(key: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return ((hash ^ hash >>> 16) >>> 0) % partitions;
}

/**
 * The buckets of a store. The first has the name that a single bucket would have, so every process on the store looks
 * at it first, however many buckets the process wants.
 */
export function partitionWishes(wish: BucketWish, partitions: number): readonly [BucketWish, ...BucketWish[]] {
  if (partitions === 1) return [wish];
  const others = Array.from({ length: partitions - 1 }, (_, i) => ({
    ...wish,
    name: `${wish.name}_${i + 1}`,
    partition: { index: i + 1, of: partitions },
  }));
  return [{ ...wish, partition: { index: 0, of: partitions } }, ...others];
}

/**
 * Finds or creates the bucket, or all buckets, of a store. The first one is bound before any other, at the start and
 * whenever one was lost: it turns away a process that wants another number of partitions before anything is created or
 * written.
 */
export async function openPartitions(
  link: Link,
  wish: BucketWish,
  partitions: number,
  logger: Logger,
): Promise<PatientKv> {
  const [firstWish, ...otherWishes] = partitionWishes(wish, partitions);
  const bindFirst = () => bindBucket(link, firstWish, logger);
  const bindOther = (other: BucketWish) => bindBucket(link.about(other.name), other, logger);
  const first = createPatientKv(link, await bindFirst(), bindFirst);
  if (otherWishes.length === 0) return first;
  const bound = await Promise.allSettled(otherWishes.map(bindOther));
  const others: PatientKv[] = [];
  const failures: { readonly name: string; readonly reason: unknown }[] = [];
  for (const [i, other] of otherWishes.entries()) {
    const result = bound[i]!;
    if (result.status === "rejected") failures.push({ name: other.name, reason: result.reason });
    else {
      others.push(createPatientKv(link.about(other.name), result.value, async () => {
        await bindFirst();
        return await bindOther(other);
      }));
    }
  }
  throwFirst(failures, partitions, link.at.store);
  return joined([first, ...others]);
}

/** Throws an error that names all buckets that cannot be used, and says why for one of them. */
function throwFirst(
  failures: readonly { readonly name: string; readonly reason: unknown }[],
  partitions: number,
  store: string,
): void {
  const worst = failures.find(({ reason }) => reason instanceof ConfigValidationError) ?? failures[0];
  if (worst === undefined) return;
  const { reason } = worst;
  if (failures.length === 1 || !(reason instanceof StoreUnavailableError)) throw reason;
  const names = failures.map(({ name }) => `'${name}'`).join(", ");
  throw new StoreUnavailableError(
    `${failures.length} of its ${partitions} KV buckets cannot be used: ${names}. The first: ${reason.message}`,
    { store, outcome: reason.outcome, cause: reason },
  );
}

/** Several buckets as one. */
function joined(parts: readonly [PatientKv, ...PatientKv[]]): PatientKv {
  const [first] = parts;
  let buckets: readonly Bucket[] = [];
  let whole = first.bucket;
  const at = (key: string): NatsKv => (parts[partitionOf(key, parts.length)] ?? first).kv;
  return {
    kv: {
      get: (key) => at(key).get(key),
      compareAndSet: (key, value, expected, ttlMs) => at(key).compareAndSet(key, value, expected, ttlMs),
      delete: (key) => at(key).delete(key),
      async *keys(prefix) {
        for (const { kv } of parts) yield* kv.keys(prefix);
      },
      // hints touch no stream, so all of them are under the first bucket's name
      wake: first.kv.wake,
      announce: first.kv.announce,
    },
    get bucket() {
      // Whoever waits asks for it again and again.
      if (parts.some(({ bucket }, i) => bucket !== buckets[i])) {
        buckets = parts.map(({ bucket }) => bucket);
        whole = common(buckets, first.bucket);
      }
      return whole;
    },
    get replacements() {
      return parts.reduce((sum, { replacements }) => sum + replacements, 0);
    },
    async saw(name, information) {
      await Promise.all(parts.map((part) => part.saw(name, information)));
    },
    // the time is asked of the first one, unless that does not answer
    patiently: first.patiently,
  };
}

/** What is true of all buckets together: the name of the first, and the least that any of them promises. */
function common(buckets: readonly Bucket[], first: Bucket): Bucket {
  const retentions = buckets.flatMap(({ retentionMs }) => retentionMs === undefined ? [] : [retentionMs]);
  return {
    ...first,
    retentionMs: retentions.length === 0 ? undefined : Math.min(...retentions),
    allowMsgTtl: buckets.every(({ allowMsgTtl }) => allowMsgTtl),
  };
}
