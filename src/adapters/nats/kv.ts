import { headers, type MsgHdrs } from "@nats-io/nats-core";
import { InvalidArgumentError } from "../../core/errors.ts";
import type { CasResult, Kv, KvEntry } from "../../core/store/kv.ts";
import type { Bucket } from "./bucket.ts";
import { toStoreError } from "./errors.ts";
import { type Answer, apiError, isAnswer, type Link, readAnswer } from "./link.ts";
import type { Question } from "./requests.ts";

/** "wrong last sequence", and its equivalent while another write of the key is on its way through the cluster. */
const CONFLICTS: ReadonlySet<unknown> = new Set([10_071, 10_164]);
const NO_MESSAGE = 10_037;

/** A longer time to live means nothing any more, and larger ones overflow in the server. */
const LONGEST_TTL_S = 100 * 365 * 86_400;

/** Keys that this package reserves: no escaped identifier has a `=` that is not followed by two hex digits. */
export const RESERVED_PREFIX = "=ratesync";

/** The subject that a key's value is published on. */
export function subjectOf(bucket: string, key: string): string {
  // the key becomes part of the protocol: a space, a line end or a wildcard would change its meaning
  if (/^(?!\.)(?:[-/=\w]|\.(?=[-/=\w]))+$/.test(key)) return `$KV.${bucket}.${key}`;
  throw new InvalidArgumentError("The key cannot be a NATS KV key.", {
    field: "key",
    expected: "letters, digits and - / _ = with single dots between",
    received: JSON.stringify(key.slice(0, 100)),
  });
}

/** A time to live as the server takes it: whole seconds, at least one. `undefined` if it means nothing. */
export function ttlHeader(ttlMs: number | undefined): string | undefined {
  if (ttlMs === undefined || Number.isNaN(ttlMs)) return undefined;
  const seconds = Math.max(1, Math.ceil(ttlMs / 1_000));
  return seconds > LONGEST_TTL_S ? undefined : `${seconds}s`;
}

/**
 * Headers with these names and the given values. It is always the same object, because making a new one takes as long
 * as the rest of a message, so it has to be filled just before sending, which turns it into bytes.
 */
function reusableHeaders(names: readonly string[]): (...values: readonly string[]) => MsgHdrs {
  const header = headers();
  for (const name of names) header.set(name, "");
  const all = [...header].map(([, values]) => values);
  return (...values) => {
    values.forEach((value, i) => all[i]![0] = value);
    return header;
  };
}

/** A {@link Kv} that can also wake waiting callers. */
export type NatsKv = Kv & Required<Pick<Kv, "wake" | "announce">>;

/**
 * A {@link Kv} on a JetStream KV bucket: every read is answered by the leader, and a compare-and-set is one message and
 * its acknowledgement.
 */
export function createNatsKv(link: Link, bucket: Bucket): NatsKv {
  const { name } = bucket;
  const stream = `KV_${name}`;

  /** The last message of a key: a value, or the marker that another client left when it deleted the key. */
  async function last(key: string): Promise<(KvEntry & { readonly marker: boolean }) | null> {
    const request = { last_by_subj: subjectOf(name, key) };
    const answer = await link.ask("read", `STREAM.MSG.GET.${stream}`, request, NO_MESSAGE);
    return answer === undefined ? null : readMessage(answer);
  }

  const permanent = reusableHeaders(["Nats-Expected-Last-Subject-Sequence"]);
  const expiring = reusableHeaders(["Nats-Expected-Last-Subject-Sequence", "Nats-TTL"]);

  /** A compare-and-set. It is a class because separate functions for each would cost as much as sending it. */
  class Write implements Question<CasResult> {
    readonly subject: string;
    constructor(
      readonly key: string,
      readonly payload: Uint8Array,
      readonly expected: number,
      readonly ttl: string | undefined,
    ) {
      this.subject = link.published(subjectOf(name, key));
    }

    headersNow(): MsgHdrs {
      return this.ttl === undefined ? permanent(`${this.expected}`) : expiring(`${this.expected}`, this.ttl);
    }

    read(data: Uint8Array): CasResult | Promise<CasResult> {
      const result = resultOf(data);
      return result.ok || this.expected > 0 ? result : overMarker(this);
    }
  }

  function resultOf(data: Uint8Array): CasResult {
    const answer = readAnswer(data);
    const { seq, error } = answer;
    if (!isAnswer(error) && typeof seq === "number" && seq > 0) return { ok: true, revision: seq };
    if (isAnswer(error) && CONFLICTS.has(error["err_code"])) return { ok: false };
    throw toStoreError(apiError(isAnswer(error) ? error : answer), { ...link.at, doing: "write" });
  }

  /** The race may have been lost only to a marker, in which case the key does not exist. */
  async function overMarker({ key, payload, ttl }: Write): Promise<CasResult> {
    const message = await last(key);
    if (!message?.marker) return { ok: false };
    return await link.request("write", new Write(key, payload, message.revision, ttl));
  }

  const wakeSubject = (key: string) => `_ratesync.${name}.wake.${key}`;

  return {
    async get(key) {
      const message = await last(key);
      return message === null || message.marker ? null : { value: message.value, revision: message.revision };
    },

    // a wrong key rejects, and does not throw
    compareAndSet: (key, value, expected, ttlMs) => {
      try {
        const ttl = bucket.allowMsgTtl ? ttlHeader(ttlMs) : undefined;
        return link.request("write", new Write(key, value, expected, ttl));
      } catch (error) {
        return Promise.reject(error);
      }
    },

    // purged, not marked as deleted: a marker would stay until the bucket's TTL ends, be listed among the keys, and
    // make the next creation take three messages
    async delete(key) {
      await link.ask("write", `STREAM.PURGE.${stream}`, { filter: subjectOf(name, key) });
    },

    async *keys(prefix = "") {
      const root = `$KV.${name}.`;
      const filter = `${root}${prefix.slice(0, prefix.lastIndexOf(".") + 1)}>`;
      for (let offset = 0;;) {
        const request = { subjects_filter: filter, offset };
        const answer = await link.ask("read", `STREAM.INFO.${stream}`, request);
        const page = subjectsIn(answer);
        for (const subject of page) {
          const key = subject.slice(root.length);
          if (key.startsWith(prefix) && !key.startsWith(RESERVED_PREFIX)) yield key;
        }
        offset += page.length;
        const total = answer?.["total"];
        if (page.length === 0 || typeof total !== "number" || offset >= total) return;
      }
    },

    // no round trip: what the caller sends next on this connection reaches the server after the subscription. A user
    // that may not subscribe gets no hints, and its callers look by themselves.
    wake(key, onHint) {
      subjectOf(name, key);
      let subscription: { unsubscribe(): void } | undefined;
      try {
        subscription = link.connection.subscribe(wakeSubject(key), {
          callback: (error) => {
            if (error === null) onHint();
          },
        });
      } catch {
        // the connection is closed, and whatever the caller does next will say so
      }
      return Promise.resolve({
        [Symbol.asyncDispose]() {
          subscription?.unsubscribe();
          subscription = undefined;
          return Promise.resolve();
        },
      });
    },

    announce(key) {
      try {
        subjectOf(name, key);
        link.connection.publish(wakeSubject(key));
      } catch {
        // waiting callers do without a hint that cannot be given
      }
    },
  };
}

/** The names of the subjects in an answer to STREAM.INFO. */
function subjectsIn(answer: Answer | undefined): string[] {
  const state = answer?.["state"];
  const subjects = isAnswer(state) ? state["subjects"] : undefined;
  return isAnswer(subjects) ? Object.keys(subjects) : [];
}

/** The message in an answer to STREAM.MSG.GET. */
function readMessage(answer: Answer): (KvEntry & { readonly marker: boolean }) | null {
  const message = answer["message"];
  if (!isAnswer(message) || typeof message["seq"] !== "number") return null;
  const { data, hdrs, seq } = message;
  return {
    value: typeof data === "string" ? fromBase64(data) : new Uint8Array(0),
    revision: seq,
    marker: typeof hdrs === "string" && isMarker(atob(hdrs)),
  };
}

/** Whether the headers are those of a deleted or expired key. */
export function isMarker(header: string): boolean {
  return /^(?:KV-Operation: *(?:DEL|PURGE)|Nats-Marker-Reason:.*)\r?$/mi.test(header);
}

function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
