import { type Bucket, hasChanged, unusable } from "./bucket.ts";
import type { StoreUnavailableError } from "../../core/errors.ts";
import { FIRST_PAUSE_MS, LONGEST_PAUSE_MS } from "./election.ts";
import { type Absence, absenceOf } from "./errors.ts";
import { createNatsKv, type NatsKv } from "./kv.ts";
import type { Answer, Link } from "./link.ts";

/** A {@link NatsKv}, and the bucket that it is on. */
export interface PatientKv {
  readonly kv: NatsKv;
  /** What the bucket is like. Changes if it had to be created again, or somebody else has changed it. */
  readonly bucket: Bucket;
  /** How often another bucket was found under its name: what was known of the revisions in it says nothing any more. */
  readonly replacements: number;
  /** Looks at information about a bucket that came by the way. Resolves when what it says is known here. */
  saw(name: string, information: Answer): Promise<void>;
  /** Makes another call about the bucket, with the same patience. */
  patiently<T>(call: () => Promise<T>): Promise<T>;
}

/** After this part of a call's time, the cause may be more than a change of leader: the bucket may be gone. */
const ASK_AFTER = 1 / 16;

/**
 * A {@link NatsKv} that does not fail while nobody answers for the bucket, as happens in a cluster while its leader
 * changes, and for a moment after a server was started. What was certainly not applied is sent again, for up to half of
 * the time that a call may take. For a bucket that the server has lost, it calls `rebind`, which creates the bucket
 * again if that is wanted: nothing else would bring its limiters back.
 */
export function createPatientKv(link: Link, first: Bucket, rebind: () => Promise<Bucket>): PatientKv {
  let bucket = first;
  let kv = createNatsKv(link, bucket);
  let replacements = 0;
  /** Why no limit can be kept in it any more. */
  let fault: StoreUnavailableError | undefined;
  let binding: Promise<void> | undefined;

  /** Finds the bucket, or creates it. Concurrent calls share the result. */
  function bind(): Promise<void> {
    binding ??= rebind().then((found) => {
      if (found.created !== bucket.created) replacements++;
      bucket = found;
      kv = createNatsKv(link, bucket);
    }).finally(() => binding = undefined);
    return binding;
  }

  async function again<T>(call: (absent: Absence) => Promise<T>, since: number, failure: unknown): Promise<T> {
    let error = failure;
    for (let pause = FIRST_PAUSE_MS;; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      const absent = absenceOf(error);
      const elapsedMs = performance.now() - since;
      const { timeoutMs } = link.at;
      if (absent === undefined || elapsedMs + pause > timeoutMs / 2) throw error;
      if (absent === "bucket" || elapsedMs > timeoutMs * ASK_AFTER) await bind();
      if (absent === "leader") await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
      try {
        return await call(absent);
      } catch (next) {
        error = next;
      }
    }
  }

  /** A call about what is stored, which means nothing where no limit can be kept. */
  function checked<T>(call: () => Promise<T>): Promise<T> {
    return fault ? Promise.reject(fault) : call();
  }

  function patiently<T>(call: () => Promise<T>): Promise<T> {
    const since = performance.now();
    return call().catch((error) => again(call, since, error));
  }

  return {
    kv: {
      get: (key) => checked(() => patiently(() => kv.get(key))),
      compareAndSet(key, value, expected, ttlMs) {
        const { losses } = link;
        const since = performance.now();
        return checked(() => kv.compareAndSet(key, value, expected, ttlMs)).catch((error) =>
          again(
            (absent) => {
              // A new bucket counts from 1, and so does a server that has lost the old one: the same number there is
              // somebody else's.
              if (expected > 0 && (absent === "bucket" || link.losses !== losses)) {
                return Promise.resolve({ ok: false });
              }
              return kv.compareAndSet(key, value, expected, ttlMs);
            },
            since,
            error,
          )
        );
      },
      delete: (key) => patiently(() => kv.delete(key)),
      keys: (prefix) => kv.keys(prefix),
      wake: (key, onHint) => kv.wake(key, onHint),
      announce: (key) => kv.announce(key),
    },
    get bucket() {
      return bucket;
    },
    get replacements() {
      return replacements;
    },
    async saw(name, information) {
      if (name !== bucket.name) return;
      fault = unusable(link, bucket.name, information);
      // If it is gone again, calls find that out.
      if (fault === undefined && hasChanged(bucket, information)) await bind().catch(() => {});
    },
    patiently,
  };
}
