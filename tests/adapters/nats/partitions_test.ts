import { assert, assertEquals, assertGreater, assertLess, assertRejects, assertStringIncludes } from "@std/assert";
import { readFile } from "node:fs/promises";
import { errors, type NatsConnection } from "@nats-io/nats-core";
import { test } from "node:test";
import {
  ConfigValidationError,
  createRateSync,
  RateLimiterAcquisitionError,
  type RateSync,
  StoreUnavailableError,
} from "../../../mod.ts";
import { isAtLeast } from "../../../src/adapters/nats/bucket.ts";
import { partitionOf, partitionWishes } from "../../../src/adapters/nats/partitions.ts";
import { forEachServer, LIMIT, natsServers, type RunningCluster, startCluster } from "../../support/nats_server.ts";
import { laterBy } from "../../support/later.ts";
import { logBook } from "../../support/log_book.ts";
import { connectionOf, freshBucket, PATIENT_MS, testStore } from "../../support/nats_store.ts";

const WISH = { name: "b", autoCreate: true, replicas: 1, storage: "memory", ttlMs: 60_000 } as const;

const bytes = (text: string) => new TextEncoder().encode(text);

test("partitionOf() is the same for ever: a key stays where every version looks for it", () => {
  const vectors: readonly (readonly [string, number])[] = [
    ["", 2_872_998_923],
    ["a", 444_641_715],
    ["foobar", 202_221_276],
    ["api", 3_405_524_968],
    ["per-user.alice=40example=2Ecom", 2_869_394_414],
    ["login.10=2E0=2E0=2E1", 863_272_073],
    ["==", 213_344_173],
  ];
  for (const [key, hash] of vectors) {
    assertEquals(partitionOf(key, 2 ** 32), hash, key);
    for (const partitions of [1, 2, 3, 6, 64]) assertEquals(partitionOf(key, partitions), hash % partitions, key);
  }
});

test("partitionOf() spreads keys evenly, whatever they have in common", () => {
  const KEYS = 12_000;
  const kinds: Readonly<Record<string, (i: number) => string>> = {
    numbers: (i) => `per-user.${i}`,
    even: (i) => `per-user.${2 * i}`,
    doubled: (i) => `${i}${i}`,
    addresses: (i) => `ip.10=2E0=2E${i >> 8}=2E${i & 255}`,
    mails: (i) => `mail.user${i}=40example=2Ecom`,
  };
  for (const [kind, keyOf] of Object.entries(kinds)) {
    for (const partitions of [2, 3, 6, 8, 64]) {
      const counts = Array.from({ length: partitions }, () => 0);
      for (let i = 0; i < KEYS; i++) counts[partitionOf(keyOf(i), partitions)]!++;
      const expected = KEYS / partitions;
      // Six standard deviations of what a fair dice would show.
      const allowed = 6 * Math.sqrt(expected * (1 - 1 / partitions));
      for (const count of counts) assertLess(Math.abs(count - expected), allowed, `${kind}, ${partitions}: ${counts}`);
    }
  }
});

test("the first bucket has the name that one alone would have, and the others come after it", () => {
  assertEquals(partitionWishes(WISH, 1), [WISH]);
  assertEquals(partitionWishes(WISH, 3).map(({ name, partition }) => [name, partition]), [
    ["b", { index: 0, of: 3 }],
    ["b_1", { index: 1, of: 3 }],
    ["b_2", { index: 2, of: 3 }],
  ]);
  assertEquals(partitionWishes(WISH, 64).length, 64);
});

async function api(connection: NatsConnection, subject: string, body: unknown = {}): Promise<Record<string, unknown>> {
  const message = await connection.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: PATIENT_MS });
  const answer = message.json<Record<string, unknown>>();
  assertEquals(answer["error"], undefined, JSON.stringify(answer));
  return answer;
}

interface StreamFacts {
  readonly config: { readonly description?: string };
  readonly state: { readonly messages: number; readonly last_seq: number };
  readonly cluster?: { readonly leader?: string };
}

async function factsOf(connection: NatsConnection, bucket: string): Promise<StreamFacts> {
  const facts = await api(connection, `STREAM.INFO.KV_${bucket}`);
  return facts as object as StreamFacts; // what the server says about every stream
}

function namesOf(bucketName: string, partitions: number): string[] {
  return Array.from({ length: partitions }, (_, i) => i === 0 ? bucketName : `${bucketName}_${i}`);
}

interface Place {
  readonly url: string;
  readonly bucketName: string;
  readonly partitions: number;
  readonly replicas?: number;
}

const WINDOW_LIMIT = 20;
const WINDOW_MS = 3_600_000;

/** One more process on a store, with a keyed window that gives nothing back during a test. */
function processOn(place: Place): RateSync {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("nats", {
    engine: "nats",
    autoCreate: true,
    storage: "memory",
    backendTimeoutMs: 10_000,
    ...place,
  });
  const window = { algorithm: "sliding_window", limit: WINDOW_LIMIT, windowMs: WINDOW_MS } as const;
  rateSync.configureLimiter("window", { store: "nats", failClosed: true, ...window });
  rateSync.configureLimiter("permits", { store: "nats", failClosed: true, maxConcurrent: 1, leaseMs: 600_000 });
  return rateSync;
}

/** All processes at once take every key's whole limit. How many were admitted, for each key. */
async function takeAll(processes: readonly RateSync[], keys: readonly string[]): Promise<number[]> {
  return await Promise.all(keys.map(async (key) => {
    let admitted = 0;
    await Promise.all(processes.map(async (rateSync) => {
      try {
        // Where the store is slow it waits for a moment; when the limit is used up it ends at once.
        for (;; admitted++) await rateSync.acquire("window", { key, timeoutMs: WINDOW_MS / 2 });
      } catch (error) {
        if (!(error instanceof RateLimiterAcquisitionError && error.reason === "timeout")) throw error;
      }
    }));
    return admitted;
  }));
}

function assertExact(admitted: readonly number[]): void {
  for (const count of admitted) assert(count <= WINDOW_LIMIT, `${count} were admitted`);
  // An answer that comes too late is capacity that is lost, and on a busy machine some do.
  assertGreater(admitted.reduce((sum, count) => sum + count, 0), admitted.length * WINDOW_LIMIT / 2);
}

await forEachServer((server) => {
  server.test("limits are exact over several buckets, and each key is in its own one", async () => {
    const { url } = await server.shared();
    const place = { url, bucketName: freshBucket(), partitions: 5 };
    await using first = processOn(place);
    await using second = processOn(place);
    const keys = Array.from({ length: 30 }, (_, i) => `user-${i}`);
    assertExact(await takeAll([first, second], keys));
    await using store = testStore(place);
    const stored = keys.map((key) => `window.${key}`);
    assertEquals((await Array.fromAsync(store.kv.keys())).sort(), [...stored].sort());
    assertEquals(await Array.fromAsync(store.kv.keys("window.user-7")), ["window.user-7"]);
    for (const [i, name] of namesOf(place.bucketName, place.partitions).entries()) {
      const { config } = await factsOf(await connectionOf(store), name);
      assertEquals(config.description, `ratesync partition ${i} of 5`);
      // A store with one bucket would refuse to open it.
      const answer = await api(await connectionOf(store), `STREAM.INFO.KV_${name}`, {
        subjects_filter: "$KV.*.window.*",
      });
      const { subjects = {} } = answer["state"] as { subjects?: Record<string, number> }; // asked for above
      const here = stored.filter((key) => partitionOf(key, 5) === i).map((key) => `$KV.${name}.${key}`);
      assertEquals(Object.keys(subjects).sort(), here.sort());
      assertGreater(here.length, 0);
    }
  });

  server.test("one who waits for a permit is woken, in whichever bucket its key is", async () => {
    const { url } = await server.shared();
    const place = { url, bucketName: freshBucket(), partitions: 3 };
    await using here = processOn(place);
    await using elsewhere = processOn(place);
    const keys = ["a", "b", "c", "d", "e", "f"];
    assertEquals(new Set(keys.map((key) => partitionOf(`permits.${key}`, 3))).size, 3);
    await Promise.all(keys.map(async (key) => {
      const held = await here.acquire("permits", { key });
      const waiting = elsewhere.acquire("permits", { key });
      assertEquals((await elsewhere.tryAcquire("permits", { key })).allowed, false);
      await held.release();
      await (await waiting).release();
    }));
    // The hint itself, which a waiter can do without.
    await using first = testStore(place);
    await using second = testStore(place);
    await Promise.all([first.open(), second.open()]);
    for (const key of keys) {
      const heard = Promise.withResolvers<void>();
      await using _subscription = await first.kv.wake?.(key, heard.resolve);
      await first.kv.get(key); // the subscription is there when this is answered
      second.kv.announce?.(key);
      await heard.promise;
    }
  });

  server.test("whoever has another number of partitions is refused, and creates nothing", async () => {
    const { url } = await server.shared();
    for (const [made, wanted] of [[3, 1], [1, 3], [3, 2], [2, 3]] as const) {
      const bucketName = freshBucket();
      await using right = processOn({ url, bucketName, partitions: made });
      await right.acquire("window");
      await using wrong = processOn({ url, bucketName, partitions: wanted });
      const error = await assertRejects<ConfigValidationError>(() => wrong.acquire("window"), ConfigValidationError);
      assertEquals(error.field, "stores.nats.partitions");
      assertStringIncludes(error.message, `Store 'nats': the KV bucket '${bucketName}' is `);
      assertStringIncludes(error.message, "every limit would count twice");
      assertStringIncludes(
        error.message,
        wanted === 1 ? "all keys in one bucket" : `'ratesync partition 0 of ${wanted}'`,
      );
      await using admin = testStore({ url });
      const names = await api(await connectionOf(admin), "STREAM.NAMES");
      const found = (names["streams"] as string[]).filter((name) => name.startsWith(`KV_${bucketName}`)); // a list of names
      assertEquals(found.sort(), namesOf(bucketName, made).map((name) => `KV_${name}`));
    }
  });

  server.test("of processes that start together with different numbers, only those with one number come in", async () => {
    const { url } = await server.shared();
    // What a server answers depends on how close together they are.
    for (let time = 0; time < 30; time++) {
      const bucketName = freshBucket();
      const numbers = [1, 2, 3, 1, 2, 3];
      const stores = numbers.map((partitions) => testStore({ url, bucketName, partitions }));
      const results = await Promise.allSettled(stores.map((store) => store.open()));
      const opened = numbers.filter((_, i) => results[i]?.status === "fulfilled");
      assertEquals(new Set(opened).size, 1);
      assertEquals(opened.length, 2);
      for (const result of results) {
        if (result.status === "rejected" && !(result.reason instanceof ConfigValidationError)) throw result.reason;
      }
      await Promise.all(stores.map((store) => store.close()));
    }
  });

  server.test("a bucket of somebody else in the place of one of several is refused", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using theirs = testStore({ url, bucketName: `${bucketName}_1` });
    await theirs.open();
    await using store = testStore({ url, bucketName, partitions: 3 });
    await assertRejects(
      () => store.open(),
      ConfigValidationError,
      `the KV bucket '${bucketName}_1' is not one of several`,
    );
  });

  server.test("without autoCreate the missing buckets are named, and once all are there they are used", async () => {
    const { url } = await server.shared();
    const place = { url, bucketName: freshBucket(), partitions: 4 };
    await using store = testStore({ ...place, autoCreate: false });
    const none = await assertRejects(() => store.open(), StoreUnavailableError);
    assertStringIncludes(none.message, `KV bucket '${place.bucketName}' not found`);
    assertStringIncludes(none.message, '--description "ratesync partition 0 of 4"');
    await using creator = testStore(place);
    await creator.open();
    for (const i of [1, 3]) await api(await connectionOf(creator), `STREAM.DELETE.KV_${place.bucketName}_${i}`);
    const two = await assertRejects(() => store.open(), StoreUnavailableError);
    assertStringIncludes(
      two.message,
      `2 of its 4 KV buckets cannot be used: '${place.bucketName}_1', '${place.bucketName}_3'`,
    );
    assertStringIncludes(two.message, '--description "ratesync partition 1 of 4"');
    await using again = testStore(place);
    await again.open();
    await store.open();
    for (let i = 0; i < 8; i++) assert((await store.kv.compareAndSet(`k${i}`, bytes("1"), 0)).ok);
  });

  server.test("a bucket that the server has lost is created again, unless the others were given away meanwhile", async () => {
    const { url } = await server.shared();
    const place = { url, bucketName: freshBucket(), partitions: 3 };
    await using store = testStore(place);
    await using admin = testStore({ url });
    const connection = await connectionOf(admin);
    const keys = Array.from({ length: 24 }, (_, i) => `k${i}`);
    assertEquals(new Set(keys.map((key) => partitionOf(key, 3))).size, 3);
    for (const key of keys) assert((await store.kv.compareAndSet(key, bytes("1"), 0)).ok);
    await api(connection, `STREAM.DELETE.KV_${place.bucketName}_2`);
    for (const key of keys) {
      const entry = await store.kv.get(key);
      assertEquals(entry === null, partitionOf(key, 3) === 2, key);
      if (entry === null) assert((await store.kv.compareAndSet(key, bytes("1"), 0)).ok);
    }
    assertEquals((await factsOf(connection, `${place.bucketName}_2`)).config.description, "ratesync partition 2 of 3");
    for (const name of namesOf(place.bucketName, 3)) await api(connection, `STREAM.DELETE.KV_${name}`);
    await using other = testStore({ ...place, partitions: 2 });
    await other.open();
    // The one that is missing is not made again: the first one says that there are two now.
    for (const key of keys.filter((each) => partitionOf(each, 3) === 2)) {
      await assertRejects(() => store.kv.get(key), ConfigValidationError, "is 'ratesync partition 0 of 2'");
    }
  });

  for (const clock of ["server", "local"] as const) {
    server.test(`any of the buckets that is replaced is not taken for the one that it was (clock: ${clock}) [FAIL-3]`, async () => {
      const { url } = await server.shared();
      const place = { url, bucketName: freshBucket(), partitions: 4, clock };
      await using store = testStore(place);
      await store.open();
      await using admin = testStore({ url });
      const connection = await connectionOf(admin);
      let ms = 0;
      for (const name of namesOf(place.bucketName, 4).toReversed()) {
        const { session } = store;
        const { config } = await factsOf(connection, name);
        await api(connection, `STREAM.DELETE.KV_${name}`);
        await api(connection, `STREAM.CREATE.KV_${name}`, config);
        // Each time that the store is used after a while, one or more of them are looked at.
        for (let used = 0; store.session === session; used++) {
          assertLess(used, 8, name);
          using _ = laterBy(ms += 10_000);
          store.clock.now();
          await store.open(); // asks for the time, as nobody knows it any more
          await store.kv.get("x"); // the answers come in order
        }
      }
    });
  }

  server.test("the least that any of the buckets keeps is what counts, and an error names the right one", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using admin = testStore({ url });
    const connection = await connectionOf(admin);
    await api(connection, `STREAM.CREATE.KV_${bucketName}_1`, {
      name: `KV_${bucketName}_1`,
      subjects: [`$KV.${bucketName}_1.>`],
      description: "ratesync partition 1 of 2",
      max_msgs_per_subject: 1,
      max_age: 10e9,
      storage: "memory",
      allow_rollup_hdrs: true,
    });
    await using store = testStore({ url, bucketName, partitions: 2 });
    await store.open();
    assertEquals(store.retentionMs, 10_000);
    assertEquals(store.allowMsgTtl, false);
    const warnings = store.log.lines.filter((line) => line.startsWith("warn"));
    assertEquals(warnings.length, 1);
    assertStringIncludes(warnings[0]!, `the KV bucket '${bucketName}_1' exists with other settings`);
    await using rateSync = processOn({ url, bucketName, partitions: 2 });
    await assertRejects(() => rateSync.acquire("window"), ConfigValidationError, "store 'nats' forgets after 10 s");
  });

  server.test("the permissions in the README are enough for several buckets, and an error shows no key", async () => {
    const readme = await readFile(new URL("../../../README.md", import.meta.url), "utf8");
    const users = /^authorization \{\n(?:.*\n)*?^\}\n/m.exec(readme)?.[0];
    assert(users, "the README has no permissions");
    // As the README says: each subject of the bucket once more for each further bucket.
    const further = users.replaceAll(
      /^( *)("\$(?:JS|KV)\.[^"]*)rate_limits([^"]*")$/gm,
      (line, space, before, after) =>
        [line, ...[1, 2].map((i) => `${space}${before}rate_limits_${i}${after}`)].join("\n"),
    );
    await using running = await server.start({ config: further });
    const address = (user: string) => running.url.replace("nats://", `nats://${user}:secret@`);
    const place = { url: address("ratesync-setup"), bucketName: "rate_limits", partitions: 3 };
    await using setup = processOn(place);
    await using user = processOn({ ...place, url: address("ratesync") });
    await setup.initializeAllLimiters();
    assertExact(await takeAll([setup, user], ["a", "b", "c", "d"]));

    const without = further.replaceAll(/ *"\$KV\.rate_limits_[12]\.>"\n/g, "");
    await using restricted = await server.start({ config: without });
    const other = restricted.url.replace("nats://", "nats://ratesync-setup:secret@");
    await using store = testStore({ url: other, bucketName: "rate_limits", partitions: 3 });
    const key = Array.from({ length: 99 }, (_, i) => `secret-${i}`).find((each) => partitionOf(each, 3) === 2)!;
    const error = await assertRejects(() => store.kv.compareAndSet(key, bytes("1"), 0), StoreUnavailableError);
    assertStringIncludes(error.message, "may not publish on '$KV.rate_limits_2.>'");
    assert(!error.message.includes(key));
  });
});

/** A cluster that has just started has no leader yet, and says so. */
async function untilElected<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Who leads a bucket, if anybody does: between two leaders the answer is an error, or there is none. */
async function leaderOf(connection: NatsConnection, name: string): Promise<string | undefined> {
  try {
    const answer = await connection.request(`$JS.API.STREAM.INFO.KV_${name}`, "", { timeout: 1_000 });
    return answer.json<Partial<StreamFacts>>().cluster?.leader;
  } catch (error) {
    if (error instanceof errors.TimeoutError) return undefined;
    throw error;
  }
}

/** The leaders of the buckets. If the cluster has put all of them on one server, one is asked to step down first. */
async function leadersOf(connection: NatsConnection, names: readonly string[]): Promise<string[]> {
  for (;;) {
    const found = await Promise.all(names.map((name) => leaderOf(connection, name)));
    const leaders = found.flatMap((leader) => leader ? [leader] : []);
    if (leaders.length === names.length) {
      if (new Set(leaders).size > 1) return leaders;
      // Whether it did shows when they are asked again.
      connection.publish(`$JS.API.STREAM.LEADER.STEPDOWN.KV_${names[0]}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const newest = (await natsServers()).filter(({ version }) => isAtLeast(version, [2, 9, 21])).at(-1);
if (newest !== undefined) {
  const name = `in a cluster the writes of several buckets go to several leaders, and limits hold [3 × nats-server`;
  test(`${name} ${newest.version}]`, LIMIT, async () => {
    await using cluster: RunningCluster = await startCluster(3, { server: newest });
    const place = { bucketName: freshBucket(), partitions: 6, replicas: 3 };
    const [one, two, three] = cluster.servers;
    assert(one && two && three);
    await using admin = testStore({ ...place, url: cluster.url, backendTimeoutMs: 10_000 });
    await untilElected(() => admin.open());
    const connection = await connectionOf(admin);
    const names = namesOf(place.bucketName, place.partitions);
    const leaders = await leadersOf(connection, names);
    await using first = processOn({ ...place, url: one.url });
    await using second = processOn({ ...place, url: two.url });
    await using third = processOn({ ...place, url: three.url });
    const keys = Array.from({ length: 24 }, (_, i) => `user-${i}`);
    assertExact(await takeAll([first, second, third], keys));

    const writes = new Map<string, number>();
    for (const [i, name] of names.entries()) {
      const { cluster, state, config } = await factsOf(connection, name);
      assertEquals(config.description, `ratesync partition ${i} of 6`);
      assertEquals(state.messages, keys.filter((key) => partitionOf(`window.${key}`, 6) === i).length);
      const leader = cluster?.leader ?? leaders[i] ?? "";
      writes.set(leader, (writes.get(leader) ?? 0) + state.last_seq);
    }
    assertGreater(writes.size, 1);
    for (const [leader, count] of writes) assertGreater(count, 0, leader);
  });
}
