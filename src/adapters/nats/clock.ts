import { headers } from "@nats-io/nats-core";
import type { Clock } from "../../core/clock.ts";
import { type Bucket, isAtLeast } from "./bucket.ts";
import { RESERVED_PREFIX, subjectOf } from "./kv.ts";
import { type Answer, isAnswer, type Link, readAnswer } from "./link.ts";

/** How far the server's time is ahead of a monotonic one, and how wrong that may be, in milliseconds. */
export interface Offset {
  /** Server time = monotonic time + `ms`. */
  readonly ms: number;
  /** The truth is within `ms` ± `errorMs`. */
  readonly errorMs: number;
}

/** One question to the server for its time. */
export interface TimeSample {
  /** The monotonic time before the question. */
  readonly before: number;
  /** The monotonic time after the answer. */
  readonly after: number;
  /** The server's answer, in milliseconds since the epoch. */
  readonly server: number;
}

/** Asks the server for its time once. */
export type AskTime = () => Promise<TimeSample | undefined>;

/** The server's clock, as this process knows it. */
export interface ServerClock extends Clock {
  /** How far the server's time is ahead of this host's clock now, in milliseconds. */
  readonly offsetMs: number;
  /** How far {@link Clock.now} may be from the server's time, in milliseconds. */
  readonly errorMs: number;
  /** When it was measured, in the server's time. */
  readonly measuredAt: number | null;
  /**
   * Whether it has not been measured for so long that nothing should be decided by it. This is as of the last
   * {@link Clock.now}, which the caller has just called: asking the host for the time again would cost as much as a
   * whole decision.
   */
  readonly isStale: boolean;
  /** Measures. Calls during a measurement share its result. Rejects if the server did not answer. */
  measure(): Promise<void>;
  /** Measures if it is stale. Rejects if the server did not answer. */
  refresh(): Promise<void>;
}

/** The age in milliseconds at which a measurement is out of date. The next use then repeats it in the background. */
const MEASURE_EVERY_MS = 2_000;
/**
 * A measurement whose error may exceed this is repeated sooner: after the time below, and after twice as long each time
 * that it is no better. The line may just have been slow when the store was opened.
 */
const POOR_ERROR_MS = 5;
const REPEAT_AFTER_MS = 50;
/** The age at which nothing is decided until it is repeated: two clocks may be 5 ms further apart by then. */
const STALE_AFTER_MS = 5_000;
const SAMPLES = 8;
/**
 * A single sample may have met a server, or this process, standing still: the time is then only known to be in between.
 */
const FEWEST_SAMPLES = 2;
const NO_MESSAGE = 10_037;
/** After this long, a measurement takes no further sample: opening a store over a slow line must not wait for all. */
const SAMPLING_MS = 100;
/** How many keys processes that measure at the same time spread over. The keys stay in the bucket, so they are few. */
const SCRATCH_KEYS = 64;
/**
 * How much two clocks may drift apart per millisecond: NTP slews a clock by up to 500 ppm, this host's and the
 * server's. Usually it is a hundredth of that.
 */
const DRIFT = 1e-3;

/**
 * The offset at the monotonic time `at` according to the best sample: the one with the smallest error, which is half of
 * its round trip plus what the clocks may have drifted since it began.
 */
export function offsetOf(samples: readonly TimeSample[], at: number): Offset | undefined {
  let best: Offset | undefined;
  for (const { before, after, server } of samples) {
    const errorMs = (after - before) / 2 + (at - before) * DRIFT;
    if (best === undefined || errorMs < best.errorMs) best = { ms: server - (before + after) / 2, errorMs };
  }
  return best;
}

/**
 * Combines a fresh measurement with the last one, taken `ageMs` before: the truth is where both allow it. If they
 * exclude each other, the server's clock was set or another server leads, and only the fresh one counts.
 */
export function combineOffsets(last: Offset | undefined, fresh: Offset, ageMs: number): Offset {
  if (last === undefined) return fresh;
  const lastError = last.errorMs + ageMs * DRIFT;
  const low = Math.max(last.ms - lastError, fresh.ms - fresh.errorMs);
  const high = Math.min(last.ms + lastError, fresh.ms + fresh.errorMs);
  return low > high ? fresh : { ms: (low + high) / 2, errorMs: (high - low) / 2 };
}

/** RFC 3339 with up to nanoseconds, as milliseconds since the epoch with their fraction. */
export function parseTimestamp(text: unknown): number | undefined {
  const [, seconds, fraction = "", zone] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(typeof text === "string" ? text : "") ?? [];
  if (seconds === undefined) return undefined;
  const whole = Date.parse(`${seconds}${zone}`);
  return Number.isNaN(whole) ? undefined : whole + Number(`0.${fraction || 0}`) * 1_000;
}

/**
 * How to ask for the time. From 2.10 on, the leader of the bucket includes it in the information about the stream, so
 * all processes on the bucket read the same clock, whichever server each is connected to. Before 2.10, a message is
 * stored, and the time at which it was stored is read. Of several buckets, the first is asked, and the next one after a
 * failure. `onInformation` hears what else the information says.
 */
export function timeSource(
  link: Link,
  { serverVersion }: Pick<Bucket, "serverVersion">,
  buckets: readonly string[],
  monotonic: () => number,
  onInformation: (bucket: string, information: Answer) => Promise<void> = () => Promise.resolve(),
): AskTime {
  let informedAt = -Infinity;
  const informationOn = async (bucket: string) => {
    const information = await link.ask("read", `STREAM.INFO.KV_${bucket}`);
    informedAt = monotonic();
    return information;
  };
  const fromInfo = async (bucket: string) => {
    const before = monotonic();
    const answer = await informationOn(bucket);
    const after = monotonic();
    if (answer) await onInformation(bucket, answer);
    const server = parseTimestamp(answer?.["ts"]);
    // The bucket's leader may be an older server than the one that this process is connected to.
    return server === undefined ? await fromMessage(bucket) : { before, after, server };
  };
  const fromMessage = async (bucket: string) => {
    const slot = Math.floor(Math.random() * SCRATCH_KEYS);
    const before = monotonic();
    const { seq } = await link.request("write", {
      subject: link.published(subjectOf(bucket, `${RESERVED_PREFIX}.clock.${slot}`)),
      headersNow: () => headers(),
      read: readAnswer,
    });
    const after = monotonic();
    // Once for all the samples of a measurement.
    const isInformed = after - informedAt <= SAMPLING_MS;
    const [answer, information] = await Promise.all([
      link.ask("read", `STREAM.MSG.GET.KV_${bucket}`, { seq }, NO_MESSAGE),
      isInformed ? undefined : informationOn(bucket),
    ]);
    if (information) await onInformation(bucket, information);
    const message = answer?.["message"];
    // another process may have taken the same slot in between, and the bucket keeps only one message
    const server = isAnswer(message) ? parseTimestamp(message["time"]) : undefined;
    return server === undefined ? undefined : { before, after, server };
  };
  const askOne = isAtLeast(serverVersion, [2, 10, 0]) ? fromInfo : fromMessage;
  let asked = 0;
  return async () => {
    try {
      return await askOne(buckets[asked]!);
    } catch (error) {
      // A bucket without a leader must not keep the others from knowing the time.
      asked = (asked + 1) % buckets.length;
      throw error;
    }
  };
}

/**
 * A clock that shows the server's time. Between measurements it runs on `monotonic`, so nothing that happens to this
 * host's clock changes it. It never goes back: if a measurement shows an earlier time, it stands still until that time
 * catches up.
 */
export function createServerClock(ask: AskTime, local: Clock, monotonic: () => number): ServerClock {
  let offset: Offset | undefined;
  let measuredAt = -Infinity;
  let due = Infinity;
  let latest = -Infinity;
  let lastRead = -Infinity;
  /** The error of a good sample; 0 while unknown. */
  let usualErrorMs = 0;
  let repeatAfterMs = REPEAT_AFTER_MS;
  let measuring: Promise<void> | undefined;

  /** When the next measurement is due. */
  function dueAfter(at: number, errorMs: number): number {
    if (errorMs <= POOR_ERROR_MS) {
      repeatAfterMs = REPEAT_AFTER_MS;
      return at + MEASURE_EVERY_MS;
    }
    const ms = repeatAfterMs;
    repeatAfterMs = Math.min(2 * repeatAfterMs, MEASURE_EVERY_MS);
    return at + ms;
  }

  /**
   * How far the clock is set back while it is not known well: because it never goes back, a clock that was ahead would
   * have to stand still once that is known. Nothing is decided by it before then.
   */
  const cautionAt = (at: number) => at - measuredAt > STALE_AFTER_MS ? (at - measuredAt) * DRIFT : 0;
  const errorAt = (at: number) => offset === undefined ? Infinity : offset.errorMs + (at - measuredAt) * DRIFT;

  async function sample(): Promise<void> {
    const start = monotonic();
    const samples: TimeSample[] = [];
    let failure: unknown;
    for (let i = 0; i < SAMPLES && (i < FEWEST_SAMPLES || monotonic() - start < SAMPLING_MS); i++) {
      try {
        const one = await ask();
        if (one !== undefined) samples.push(one);
      } catch (error) {
        failure = error;
        break;
      }
      // It is as good as samples usually are, so more would add little.
      if ((offsetOf(samples, monotonic())?.errorMs ?? Infinity) <= 2 * usualErrorMs) break;
    }
    const at = monotonic();
    const fresh = offsetOf(samples, at);
    due = at + MEASURE_EVERY_MS;
    if (fresh === undefined) throw failure ?? new Error("the server did not say its time");
    offset = combineOffsets(offset, fresh, at - measuredAt);
    measuredAt = at;
    due = dueAfter(at, offset.errorMs);
    // The path to the server may become longer for good.
    usualErrorMs = Math.min(fresh.errorMs, 1.5 * (usualErrorMs || Infinity));
  }

  function measure(): Promise<void> {
    measuring ??= sample().finally(() => measuring = undefined);
    return measuring;
  }

  const clock: ServerClock = {
    now() {
      if (offset === undefined) return local.now();
      const at = lastRead = monotonic();
      if (at >= due && measuring === undefined) measure().catch(() => {});
      latest = Math.max(latest, at + offset.ms - cautionAt(at));
      return latest;
    },
    sleep: (ms, signal, isBackground) => local.sleep(ms, signal, isBackground),
    get offsetMs() {
      if (offset === undefined) return 0;
      const at = monotonic();
      return at + offset.ms - cautionAt(at) - local.now();
    },
    get errorMs() {
      const at = monotonic();
      return errorAt(at) + (offset === undefined ? 0 : cautionAt(at));
    },
    get measuredAt() {
      return offset === undefined ? null : measuredAt + offset.ms;
    },
    get isStale() {
      return offset === undefined || lastRead - measuredAt > STALE_AFTER_MS;
    },
    measure,
    async refresh() {
      clock.now(); // updates whether it is stale
      if (clock.isStale) await measure();
    },
  };
  return clock;
}
