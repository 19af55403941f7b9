import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import type { NatsConnection } from "@nats-io/nats-core";
import { createRateSync, type RateSync } from "../../../mod.ts";
import { isAtLeast } from "../../../src/adapters/nats/bucket.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { logBook } from "../../support/log_book.ts";
import { connectionOf, freshBucket, PATIENT_MS, testStore } from "../../support/nats_store.ts";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

interface StoredMessage {
  readonly seq: number;
  readonly time: string;
  readonly hdrs?: string;
}

/** The last message of a key, marker or value. */
async function lastOf(connection: NatsConnection, bucket: string, key: string): Promise<StoredMessage | undefined> {
  const request = JSON.stringify({ last_by_subj: `$KV.${bucket}.${key}` });
  const answer = await connection.request(`$JS.API.STREAM.MSG.GET.KV_${bucket}`, request, { timeout: PATIENT_MS });
  return answer.json<{ message?: StoredMessage }>().message;
}

async function messagesIn(connection: NatsConnection, bucket: string): Promise<number> {
  const answer = await connection.request(`$JS.API.STREAM.INFO.KV_${bucket}`, "", { timeout: PATIENT_MS });
  return answer.json<{ state: { messages: number } }>().state.messages;
}

interface Place {
  readonly url: string;
  readonly bucketName: string;
}

const WINDOW_MS = 2_000;
const LEASE_MS = 2_500;

/** Who can do nothing for this long may come too late for a renewal. */
const STALL_MS = 800;
const TRIES = 3;

/** Tries again what has failed while the machine did not let this process run. */
async function undisturbed(attempt: (time: number) => Promise<void>): Promise<void> {
  for (let time = 1;; time++) {
    let longestMs = 0;
    let last = performance.now();
    const look = () => {
      longestMs = Math.max(longestMs, performance.now() - last);
      last = performance.now();
    };
    const timer = setInterval(look, 20);
    try {
      return await attempt(time);
    } catch (error) {
      look();
      if (longestMs <= STALL_MS || time === TRIES) throw error;
    } finally {
      clearInterval(timer);
    }
  }
}

/** One more process on a bucket. */
function processOn(place: Place): RateSync {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("nats", {
    engine: "nats",
    autoCreate: true,
    storage: "memory",
    backendTimeoutMs: 10_000,
    ...place,
  });
  const common = { store: "nats", failClosed: true } as const;
  rateSync.configureLimiter("once", { ...common, algorithm: "sliding_window", limit: 1, windowMs: 500 });
  rateSync.configureLimiter("window", { ...common, algorithm: "sliding_window", limit: 1_000, windowMs: WINDOW_MS });
  rateSync.configureLimiter("permits", { ...common, maxConcurrent: 5, leaseMs: LEASE_MS });
  return rateSync;
}

await forEachServer((server) => {
  const modern = isAtLeast(server.version, [2, 11, 0]);

  server.test(`users who come once ${modern ? "leave nothing in the bucket" : "stay in the bucket, which breaks nothing"} [NATS-8]`, async () => {
    const USERS = 2_000;
    const place = { url: (await server.shared()).url, bucketName: freshBucket() };
    await using rateSync = processOn(place);
    const users = Array.from({ length: USERS }, (_, i) => `user-${i}@example.com`);
    const come = async (some: readonly string[]) => {
      await Promise.all(some.map((key) => rateSync.acquire("once", { key, timeoutMs: 60_000 })));
    };
    for (let i = 0; i < USERS; i += 250) await come(users.slice(i, i + 250));
    await using admin = testStore(place);
    const connection = await connectionOf(admin);
    if (modern) { while (await messagesIn(connection, place.bucketName) > 0) await sleep(100); }
    else assertGreaterOrEqual(await messagesIn(connection, place.bucketName), USERS);
    // Whether they are there or not, who comes again is admitted again, and limited again.
    await come(users.slice(0, 250));
    const [key] = users;
    const twice = await Promise.all([1, 2].map(() => rateSync.tryAcquire("once", { key })));
    assert(!twice.every(({ allowed }) => allowed));
  });

  if (!modern) return;

  server.test("a key does not expire while it matters: each write and each renewal gives it new time [NATS-8, CON-3]", async () => {
    const place = { url: (await server.shared()).url, bucketName: freshBucket() };
    await using here = processOn(place);
    await using elsewhere = processOn(place);
    await using admin = testStore(place);
    const connection = await connectionOf(admin);
    const message = (key: string) => lastOf(connection, place.bucketName, key);

    const written = async (time: number) => {
      const key = `${time}`;
      await here.acquire("window", { key });
      const first = await message(`window.${key}`);
      assert(first);
      let last = first;
      const end = Date.parse(first.time) + 2.5 * WINDOW_MS;
      for (;;) {
        if (admin.clock.now() < end) await here.acquire("window", { key });
        const found = await message(`window.${key}`);
        if (found === undefined) break;
        last = found;
        await sleep(100);
      }
      // By now it was gone. Its server must not have dropped it before its last grant had left the window.
      assertGreaterOrEqual(admin.clock.now(), Date.parse(last.time) + WINDOW_MS);
      assertGreaterOrEqual(Date.parse(last.time), end - WINDOW_MS);
    };

    const held = async (time: number) => {
      const key = `${time}`;
      const stored = () => message(`permits.${key}`);
      const usage = async () => (await elsewhere.getLimiter("permits").key(key).getState()).currentUsage;
      const permit = await here.acquire("permits", { key });
      const first = await stored();
      assert(first);
      // Longer than the first value was to live: only renewals keep it.
      for (const end = Date.parse(first.time) + 2 * LEASE_MS; admin.clock.now() < end;) {
        assertEquals([await stored() !== undefined, permit.lost], [true, false]);
        await sleep(100);
      }
      assertEquals(await usage(), 1);
      await permit.release();
      while (await stored() !== undefined) await sleep(100);
      assertEquals(await usage(), 0);
      await (await elsewhere.acquire("permits", { key })).release();
    };

    await Promise.all([undisturbed(written), undisturbed(held)]);
  });

  server.test("the marker that an expired key leaves in somebody else's bucket is no value, and is in nobody's way [NATS-4, NATS-8]", async () => {
    const place = { url: (await server.shared()).url, bucketName: freshBucket() };
    await using other = testStore({ url: place.url });
    const connection = await connectionOf(other);
    // As `nats kv add --marker-ttl 2m` does it.
    const created = await connection.request(
      `$JS.API.STREAM.CREATE.KV_${place.bucketName}`,
      JSON.stringify({
        name: `KV_${place.bucketName}`,
        subjects: [`$KV.${place.bucketName}.>`],
        max_msgs_per_subject: 1,
        storage: "memory",
        allow_rollup_hdrs: true,
        deny_delete: true,
        allow_msg_ttl: true,
        subject_delete_marker_ttl: 120e9,
      }),
      { timeout: PATIENT_MS },
    );
    assertEquals(created.json<{ error?: unknown }>().error, undefined);
    await using here = processOn(place);
    await using elsewhere = processOn(place);
    const keys = ["a", "b"];
    const all = (rateSync: RateSync) => Promise.all(keys.map((key) => rateSync.tryAcquire("once", { key })));
    assertEquals((await all(here)).map(({ allowed }) => allowed), [true, true]);
    for (const key of keys) {
      const isMarked = async () => {
        const { hdrs = "" } = await lastOf(connection, place.bucketName, `once.${key}`) ?? {};
        return atob(hdrs).includes("Nats-Marker-Reason: MaxAge");
      };
      while (!await isMarked()) await sleep(100);
    }
    await using store = testStore(place);
    await store.open(); // what is written next lives for two seconds
    await elsewhere.initializeLimiter("once");
    // One who knew the value, and one who never saw it.
    await here.acquire("once", { key: "a", timeoutMs: 60_000 });
    await elsewhere.acquire("once", { key: "b", timeoutMs: 60_000 });
    for (const key of keys) assert(await store.kv.get(`once.${key}`), key);
  });
});
