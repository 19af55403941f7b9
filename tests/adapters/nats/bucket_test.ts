import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import type { NatsConnection } from "@nats-io/nats-core";
import { test } from "node:test";
import { isAtLeast } from "../../../src/adapters/nats/bucket.ts";
import { isMarker, subjectOf, ttlHeader } from "../../../src/adapters/nats/kv.ts";
import type { NatsStore } from "../../../src/adapters/nats/store.ts";
import { ConfigValidationError, InvalidArgumentError, StoreUnavailableError } from "../../../src/core/errors.ts";
import { forEachServer, LIMIT, natsServers, startCluster } from "../../support/nats_server.ts";
import { laterBy } from "../../support/later.ts";
import { connectionOf, freshBucket, PATIENT_MS, testStore } from "../../support/nats_store.ts";

const text = (value: string) => new TextEncoder().encode(value);

async function api(connection: NatsConnection, subject: string, body: unknown = {}): Promise<Record<string, unknown>> {
  const message = await connection.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: PATIENT_MS });
  const answer = message.json<Record<string, unknown>>();
  assertEquals(answer["error"], undefined, JSON.stringify(answer));
  return answer;
}

async function configOf(connection: NatsConnection, bucket: string): Promise<Record<string, unknown>> {
  const { config } = await api(connection, `STREAM.INFO.KV_${bucket}`);
  return config as Record<string, unknown>; // a stream's information always has its configuration
}

test("isAtLeast() compares versions as numbers [NATS-4]", () => {
  assert(isAtLeast("2.9.21", [2, 9, 21]));
  assert(isAtLeast("2.10.0", [2, 9, 21]));
  assert(isAtLeast("v3.0.0-RC.1", [2, 9, 21]));
  for (const older of ["2.9.10", "2.9.3", "1.99.99", "", "unknown"]) assert(!isAtLeast(older, [2, 9, 21]), older);
});

test("ttlHeader() gives whole seconds, rounded up, at least one [NATS-8]", () => {
  assertEquals([undefined, NaN, Infinity, 1e18].map(ttlHeader), [undefined, undefined, undefined, undefined]);
  assertEquals([-5, 0, 1, 1_000, 1_001, 86_400_000].map(ttlHeader), ["1s", "1s", "1s", "1s", "2s", "86400s"]);
});

test("subjectOf() refuses what would change the meaning of the protocol [NATS-6]", () => {
  assertEquals(subjectOf("b", "api.user=40x"), "$KV.b.api.user=40x");
  for (const key of ["", ".", "a.", ".a", "a..b", "a b", "a\r\nPUB x 0", "*", "a.>", "ä", "a\n"]) {
    try {
      subjectOf("b", key);
    } catch (error) {
      assert(error instanceof InvalidArgumentError);
      continue;
    }
    throw new Error(`${JSON.stringify(key)} was accepted`);
  }
});

test("isMarker() knows the headers of deleted and expired keys [NATS-4]", () => {
  assert(isMarker("NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"));
  assert(isMarker("NATS/1.0\r\nNats-Rollup: sub\r\nKV-Operation: PURGE\r\n\r\n"));
  assert(isMarker("NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n"));
  assert(!isMarker("NATS/1.0\r\nNats-TTL: 2s\r\nX: KV-Operation: DEL\r\n\r\n"));
});

await forEachServer((server) => {
  const modern = isAtLeast(server.version, [2, 11, 0]);

  server.test("autoCreate creates the bucket as it was configured [NATS-1, NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName, storage: "file" });
    await store.open();
    const config = await configOf(await connectionOf(store), bucketName);
    assertEquals(config["max_msgs_per_subject"], 1);
    assertEquals(config["max_age"], 86_400 * 1e9);
    assertEquals(config["num_replicas"], 1);
    assertEquals(config["storage"], "file");
    assertEquals(config["subjects"], [`$KV.${bucketName}.>`]);
    assert(config["allow_direct"] !== true);
    assertEquals(store.retentionMs, 86_400_000);
    assertEquals(store.serverVersion, server.version);
    assertEquals(store.log.lines.filter((line) => line.startsWith("warn")), []);
  });

  server.test(`a value's own time to live is ${modern ? "used" : "left out"} [NATS-4, NATS-8]`, async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    await store.open();
    assertEquals(store.allowMsgTtl, modern);
    await store.kv.compareAndSet("a", text("1"), 0, 1_500);
    const { message } = await api(await connectionOf(store), `STREAM.MSG.GET.KV_${bucketName}`, {
      last_by_subj: `$KV.${bucketName}.a`,
    });
    const { hdrs } = message as { hdrs: string }; // every compare-and-set carries headers
    assertEquals(atob(hdrs).includes("Nats-TTL: 2s"), modern);
  });

  server.test("without autoCreate a missing bucket is an error that says what to do [NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName, autoCreate: false });
    const error = await assertRejects(() => store.open(), StoreUnavailableError);
    assert(error instanceof StoreUnavailableError);
    assertStringIncludes(error.message, `KV bucket '${bucketName}' not found. Set auto_create = true`);
    assertStringIncludes(error.message, `nats kv add ${bucketName} --history 1 --ttl 24h`);
    assertEquals(error.outcome, "not_applied");
  });

  server.test("without autoCreate an existing bucket is used [NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using first = testStore({ url, bucketName });
    await first.open();
    await using second = testStore({ url, bucketName, autoCreate: false });
    assert((await second.kv.compareAndSet("a", text("1"), 0)).ok);
    assertEquals((await first.kv.get("a"))?.value, text("1"));
  });

  server.test("an existing bucket with other settings is used, with a warning that says how it differs [NATS-1, NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using admin = testStore({ url });
    await api(await connectionOf(admin), `STREAM.CREATE.KV_${bucketName}`, {
      name: `KV_${bucketName}`,
      subjects: [`$KV.${bucketName}.>`],
      storage: "memory",
      max_msgs_per_subject: 5,
      max_age: 10e9,
      allow_direct: true,
      allow_rollup_hdrs: true,
    });
    await using store = testStore({ url, bucketName, storage: "file" });
    await store.open();
    const warning = store.log.lines.find((line) => line.startsWith("warn")) ?? "";
    assertMatch(warning, /history 5 instead of 1, TTL 10 s instead of 86400 s, storage memory instead of file/);
    assertEquals(store.retentionMs, 10_000);
    assertEquals(store.allowMsgTtl, false);
    assert((await store.kv.compareAndSet("a", text("1"), 0, 5_000)).ok);
  });

  const modernOnly = { discard_new_per_subject: true };
  for (
    const [settings, problem] of [
      [{ retention: "interest" }, "keeps nothing that is not read (retention: interest)"],
      [{ retention: "workqueue" }, "keeps nothing that is not read (retention: workqueue)"],
      [{ no_ack: true }, "does not acknowledge what is written to it (no_ack)"],
      [{ sealed: true }, "is sealed, so nothing can be written to it any more"],
      [{ mirror: { name: "KV_somewhere_else" }, subjects: [] }, "is a mirror, so nothing can be written to it"],
      ...(modern ? [[modernOnly, "lets no value replace another one (discard_new_per_subject)"] as const] : []),
    ] as const
  ) {
    server.test(`a stream that ${problem} is refused, with that reason [NATS-1, NATS-2]`, async () => {
      const { url } = await server.shared();
      const bucketName = freshBucket();
      await using admin = testStore({ url });
      const connection = await connectionOf(admin);
      const whole = { subjects: [`$KV.${bucketName}.>`], storage: "memory", max_msgs_per_subject: 1, discard: "new" };
      const { sealed, ...others } = { sealed: false, ...settings };
      const config = { name: `KV_${bucketName}`, ...whole, ...others };
      await api(connection, `STREAM.CREATE.KV_${bucketName}`, config);
      if (sealed) await api(connection, `STREAM.UPDATE.KV_${bucketName}`, { ...config, sealed });
      await using store = testStore({ url, bucketName });
      const error = await assertRejects(() => store.open(), StoreUnavailableError);
      assertStringIncludes(String(error), `the stream 'KV_${bucketName}' ${problem}`);
    });
  }

  server.test("a bucket that forgets a key when it is full is used, with a warning [NATS-1]", async () => {
    const { url } = await server.shared();
    await using admin = testStore({ url });
    const warnings: string[] = [];
    for (
      const settings of [{ discard: "old", max_msgs: 9 }, { discard: "old" }, { discard: "new", max_bytes: 9_999 }]
    ) {
      const bucketName = freshBucket();
      const whole = {
        subjects: [`$KV.${bucketName}.>`],
        storage: "memory",
        max_msgs_per_subject: 1,
        max_age: 86_400e9,
      };
      const config = { name: `KV_${bucketName}`, ...whole, ...settings };
      await api(await connectionOf(admin), `STREAM.CREATE.KV_${bucketName}`, config);
      await using store = testStore({ url, bucketName });
      await store.open();
      const lines = store.log.lines.filter((line) => line.startsWith("warn"));
      warnings.push(lines.join().replace(/.* as it is: |\. Make the .*/g, ""));
    }
    assertEquals(warnings, ["discard old instead of new", "", ""]);
  });

  server.test("a bucket whose subjects another stream has cannot be created, and the error says so [NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using admin = testStore({ url });
    const subjects = [`$KV.${bucketName}.>`];
    await api(await connectionOf(admin), `STREAM.CREATE.OTHER_${bucketName}`, {
      name: `OTHER_${bucketName}`,
      subjects,
    });
    await using store = testStore({ url, bucketName });
    await assertRejects(() => store.open(), StoreUnavailableError, "subjects overlap");
  });

  server.test("a bucket that was replaced meanwhile is not taken for the one that it was [FAIL-3]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    await store.open();
    const { session, retentionMs } = store;
    const connection = await connectionOf(store);
    await api(connection, `STREAM.DELETE.KV_${bucketName}`);
    const subjects = [`$KV.${bucketName}.>`];
    const config = { name: `KV_${bucketName}`, subjects, storage: "memory", max_msgs_per_subject: 1, max_age: 600e9 };
    await api(connection, `STREAM.CREATE.KV_${bucketName}`, config);
    assertEquals([store.session, store.retentionMs], [session, retentionMs]);
    using _ = laterBy(10_000);
    store.clock.now();
    await store.open(); // asks for the time, as nobody knows it any more
    assert(store.session !== session);
    assertEquals(store.retentionMs, 600_000);
  });

  // Before 2.10 nobody says the time of a bucket that acknowledges nothing, so that is an outage by itself.
  if (isAtLeast(server.version, [2, 10, 0])) {
    server.test("a bucket in which no limit can be kept any more is an outage, until it can [FAIL-3]", async () => {
      const { url } = await server.shared();
      const bucketName = freshBucket();
      await using store = testStore({ url, bucketName });
      await store.kv.compareAndSet("a", text("1"), 0);
      const connection = await connectionOf(store);
      const config = await configOf(connection, bucketName);
      await api(connection, `STREAM.UPDATE.KV_${bucketName}`, { ...config, no_ack: true });
      using _ = laterBy(10_000);
      store.clock.now();
      await store.open(); // asks for the time, as nobody knows it any more
      for (const call of [() => store.kv.get("a"), () => store.kv.compareAndSet("b", text("1"), 0)]) {
        const error = await assertRejects(call, StoreUnavailableError);
        assertStringIncludes(String(error), "does not acknowledge what is written to it");
      }
      await api(connection, `STREAM.UPDATE.KV_${bucketName}`, config);
      using __ = laterBy(20_000);
      store.clock.now();
      await store.open();
      assertEquals((await store.kv.get("a"))?.value, text("1"));
    });
  }

  server.test("a bucket with a TTL that is no whole number of nanoseconds, or a very long one, is as wanted [NATS-1]", async () => {
    const { url } = await server.shared();
    for (const bucketTtlMs of [86_400_000 / 7, 100, 100 * 365 * 86_400_000]) {
      const bucketName = freshBucket();
      for (let i = 0; i < 2; i++) {
        await using store = testStore({ url, bucketName, bucketTtlMs });
        await store.open();
        assertEquals(store.log.lines.filter((line) => line.startsWith("warn")), []);
      }
    }
  });

  server.test("a bucket without a TTL has no retention [NATS-1]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using admin = testStore({ url });
    await api(await connectionOf(admin), `STREAM.CREATE.KV_${bucketName}`, {
      name: `KV_${bucketName}`,
      subjects: [`$KV.${bucketName}.>`],
      max_msgs_per_subject: 1,
      storage: "memory",
    });
    await using store = testStore({ url, bucketName });
    await store.open();
    assertEquals(store.retentionMs, undefined);
  });

  server.test("stores that create the bucket at the same time, with other settings, all work [NATS-1]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    const ttls = [10_000, 20_000, 30_000, 30_000, 40_000, 50_000];
    const stores = ttls.map((bucketTtlMs) => testStore({ url, bucketName, bucketTtlMs }));
    await Promise.all(stores.map((store) => store.open()));
    const retentions = new Set(stores.map((store) => store.retentionMs));
    assertEquals(retentions.size, 1);
    await Promise.all(stores.map((store) => store.close()));
  });

  server.test("a bucket that was made anew while it was in use, and takes no time to live, is used [NATS-1, NATS-8]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    const first = await store.kv.compareAndSet("a", text("1"), 0, 60_000);
    assert(first.ok);
    const connection = await connectionOf(store);
    const { max_msgs_per_subject, subjects, storage } = await configOf(connection, bucketName);
    await api(connection, `STREAM.DELETE.KV_${bucketName}`);
    const config = { name: `KV_${bucketName}`, subjects, storage, max_msgs_per_subject, allow_direct: true };
    await api(connection, `STREAM.CREATE.KV_${bucketName}`, { ...config, discard: "new" });
    // What was known is gone, and a race is lost for it.
    assertEquals(await store.kv.compareAndSet("a", text("2"), first.revision, 60_000), { ok: false });
    assertEquals(await store.kv.get("a"), null);
    assert((await store.kv.compareAndSet("a", text("3"), 0, 60_000)).ok);
  });

  server.test("a key that another client deleted can be created with one compareAndSet() [NATS-4]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    const { Kvm } = await import("@nats-io/kv");
    await store.open();
    const theirs = await new Kvm(await connectionOf(store)).open(bucketName);
    for (const remove of ["delete", "purge"] as const) {
      await theirs.put("a", "theirs");
      await theirs[remove]("a");
      assertEquals(await store.kv.get("a"), null);
      const result = await store.kv.compareAndSet("a", text("ours"), 0);
      assert(result.ok);
      assertEquals((await theirs.get("a"))?.string(), "ours");
      assertEquals(await store.kv.compareAndSet("a", text("late"), 0), { ok: false });
    }
  });

  server.test("what is written is an ordinary entry for other KV clients, and the other way round [NATS-4]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    const { Kvm } = await import("@nats-io/kv");
    await store.kv.compareAndSet("api", text("{}"), 0);
    const theirs = await new Kvm(await connectionOf(store)).open(bucketName);
    assertEquals((await theirs.get("api"))?.string(), "{}");
    const revision = await theirs.put("b", "x");
    assertEquals(await store.kv.get("b"), { value: text("x"), revision });
  });
});

test("a bucket name that NATS does not take is refused before anything is opened [NATS-6]", () => {
  for (const bucketName of ["", "a b", "a.b", "*", "a>"]) {
    assertThrows(() => testStore({ url: "nats://127.0.0.1:1", bucketName }), ConfigValidationError, "bucketName");
  }
});

const servers = await natsServers();
for (const server of servers) {
  const safe = isAtLeast(server.version, [2, 9, 21]);
  test(
    `a replicated bucket is ${safe ? "used" : "refused"} [3 × nats-server ${server.version}]`,
    LIMIT,
    async () => {
      await using cluster = await startCluster(3, { server });
      const bucketName = freshBucket();
      // What a server without a leader does not answer is asked again, as soon as that.
      const hasty = { url: cluster.url, backendTimeoutMs: 1_000 };
      const replicated = { url: cluster.url, bucketName, replicas: 3 };
      await using admin = testStore(hasty);
      await untilElected(() => admin.open());
      if (safe) {
        await using store = testStore({ ...replicated, backendTimeoutMs: 10_000 });
        await untilElected(() => store.open());
        const results = await Promise.all(Array.from({ length: 8 }, () => store.kv.compareAndSet("a", text("1"), 0)));
        assertEquals(results.filter(({ ok }) => ok).length, 1);
        return;
      }
      await using wanted = testStore({ ...replicated, ...hasty });
      const refuses = async (store: NatsStore, why: string) => {
        await assertRejects(() => store.open(), StoreUnavailableError, why);
      };
      await untilElected(() => refuses(wanted, "breaks compare-and-set on replicated buckets"));
      await untilElected(async () => {
        await api(await connectionOf(admin), `STREAM.CREATE.KV_${bucketName}`, {
          name: `KV_${bucketName}`,
          subjects: [`$KV.${bucketName}.>`],
          num_replicas: 3,
          storage: "memory",
          max_msgs_per_subject: 1,
        });
      });
      await using found = testStore({ ...hasty, bucketName });
      await untilElected(() => refuses(found, "has 3 replicas"));
    },
  );
}

const newest = servers.at(-1);
assert(newest);
test(
  `a store opens, and reads, as soon as there is another leader than the one that is frozen [NATS-4] [3 × nats-server ${newest.version}]`,
  LIMIT,
  async () => {
    await using cluster = await startCluster(3, { server: newest });
    const place = { bucketName: freshBucket(), replicas: 3, backendTimeoutMs: 40_000 };
    await using before = testStore({ ...place, url: cluster.url });
    await untilElected(() => before.open());
    assert((await before.kv.compareAndSet("a", text("1"), 0)).ok);
    const { cluster: group } = await api(await connectionOf(before), `STREAM.INFO.KV_${place.bucketName}`);
    const { leader } = group as { readonly leader: string }; // a stream on several servers always says it
    const leading = cluster.servers.findIndex((_, i) => `n${i}` === leader);
    const others = cluster.servers.filter((_, i) => i !== leading);
    assertEquals(others.length, 2);
    await using reader = testStore({ ...place, url: others[0]!.url });
    await reader.open();
    await cluster.servers[leading]!.kill("SIGSTOP");
    // Nobody leads it for some seconds, and what is asked meanwhile is not answered.
    await using after = testStore({ ...place, url: others[1]!.url });
    const [, read] = await Promise.all([after.open(), reader.kv.get("a")]);
    assertEquals([read?.value, (await after.kv.get("a"))?.value], [text("1"), text("1")]);
  },
);

/** A cluster that has just started has no leader yet, and says so. */
async function untilElected(attempt: () => Promise<void>): Promise<void> {
  for (let left = 200; left > 0; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
