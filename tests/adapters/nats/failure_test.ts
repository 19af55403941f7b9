import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { NatsStore } from "../../../src/adapters/nats/store.ts";
import { StoreUnavailableError } from "../../../src/core/errors.ts";
import type { CasResult } from "../../../src/core/store/kv.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { connectionOf, freshBucket, PATIENT_MS, testStore } from "../../support/nats_store.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** The revision of a write that was expected to win. */
function won(result: CasResult): number {
  if (!result.ok) throw new Error("the compare-and-set lost its race");
  return result.revision;
}

/** Deletes the bucket behind the store's back. */
async function deleteBucket(store: NatsStore, bucketName: string): Promise<void> {
  const connection = await connectionOf(store);
  await connection.request(`$JS.API.STREAM.DELETE.KV_${bucketName}`, "", { timeout: PATIENT_MS });
}

/** The outcome that a failed write reports. */
async function outcomeOf(write: Promise<unknown>): Promise<"unknown" | "not_applied"> {
  const error = await assertRejects(() => write, StoreUnavailableError);
  assert(error instanceof StoreUnavailableError);
  return error.outcome;
}

await forEachServer((server) => {
  server.test("a frozen server is a failure with an unknown outcome, within backendTimeoutMs [FAIL-5]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, backendTimeoutMs: 2_000 });
    await store.open();
    await running.kill("SIGSTOP");
    const write = store.kv.compareAndSet("a", bytes("late"), 0);
    const read = store.kv.get("a");
    assertEquals(await outcomeOf(write), "unknown");
    await assertRejects(() => read, StoreUnavailableError, "did not answer within 2000 ms");
    await running.kill("SIGCONT");
    // what timed out was applied after all: so unknown it is
    const again = await store.kv.compareAndSet("a", bytes("again"), 0);
    assertEquals(again, { ok: false });
    assertEquals((await store.kv.get("a"))?.value, bytes("late"));
  });

  server.test("requests on their way when the connection breaks fail at once, as unknown [FAIL-2]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, backendTimeoutMs: 60_000 });
    await store.open();
    await running.kill("SIGSTOP");
    const writes = Array.from({ length: 5 }, (_, i) => outcomeOf(store.kv.compareAndSet(`k${i}`, bytes("x"), 0)));
    await running.kill("SIGKILL");
    assertEquals(new Set(await Promise.all(writes)), new Set(["unknown"]));
  });

  server.test("writes while the connection is restored expect what each of them was told to [FAIL-3, NATS-4]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, storage: "file", backendTimeoutMs: 60_000 });
    const keys = ["a", "b", "c"];
    const revisions: number[] = [];
    for (const key of keys) revisions.push(won(await store.kv.compareAndSet(key, bytes("1"), 0)));
    await running.stop();
    await store.log.heard(/lost the connection/);
    const lost = store.kv.compareAndSet("a", bytes("lost"), 1_000);
    const writes = keys.map((key, i) => store.kv.compareAndSet(key, bytes("2"), revisions[i]!, 10_000 * (i + 1)));
    await running.restart();
    assertEquals((await Promise.all(writes)).map(({ ok }) => ok), [true, true, true]);
    assertEquals(await lost, { ok: false });
    for (const key of keys) assertEquals((await store.kv.get(key))?.value, bytes("2"));
  });

  server.test("a request while the connection is restored waits for it, and then succeeds [FAIL-3]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, storage: "file", backendTimeoutMs: 60_000 });
    const first = won(await store.kv.compareAndSet("a", bytes("1"), 0));
    await running.stop();
    await store.log.heard(/lost the connection/);
    const waiting = store.kv.compareAndSet("a", bytes("2"), first);
    await running.restart();
    assert((await waiting).ok);
    assertEquals((await store.kv.get("a"))?.value, bytes("2"));
  });

  server.test("a request while the server stays away fails, and was certainly not applied [FAIL-2]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, backendTimeoutMs: 2_000 });
    await store.open();
    await running.kill("SIGKILL");
    await store.log.heard(/lost the connection/);
    const write = outcomeOf(store.kv.compareAndSet("a", bytes("1"), 0));
    await assertRejects(() => store.kv.get("a"), StoreUnavailableError, `the connection to ${running.host} is down`);
    assertEquals(await write, "not_applied");
  });

  server.test("a store survives several restarts of its server [FAIL-3]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url, storage: "file", backendTimeoutMs: 60_000 });
    let revision = 0;
    for (let i = 0; i < 3; i++) {
      revision = won(await store.kv.compareAndSet("a", bytes(`${i}`), revision));
      const seen = store.log.lines.length;
      await running.restart();
      for (const line of store.log.lines.slice(seen)) assert(!line.startsWith("error"), line);
    }
    assertEquals((await store.kv.get("a"))?.revision, revision);
  });

  server.test("a bucket that was deleted meanwhile is a clear error, and a write to it was not applied", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using creator = testStore({ url, bucketName });
    await creator.open();
    await using store = testStore({ url, bucketName, autoCreate: false });
    await store.open();
    await deleteBucket(store, bucketName);
    await assertRejects(() => store.kv.get("a"), StoreUnavailableError, `KV bucket '${bucketName}' not found`);
    assertEquals(await outcomeOf(store.kv.compareAndSet("a", bytes("1"), 0)), "not_applied");
  });

  server.test("a bucket that was deleted meanwhile is created again where that is wanted [FAIL-3, NATS-2]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName, backendTimeoutMs: 60_000 });
    const revision = won(await store.kv.compareAndSet("a", bytes("1"), 0));
    await deleteBucket(store, bucketName);
    // What stood there is gone, so the race is lost.
    assertEquals(await store.kv.compareAndSet("a", bytes("2"), revision), { ok: false });
    assertEquals(await store.kv.get("a"), null);
    won(await store.kv.compareAndSet("a", bytes("3"), 0));
    await deleteBucket(store, bucketName);
    const writes = Array.from({ length: 5 }, (_, i) => store.kv.compareAndSet(`k${i}`, bytes("4"), 0));
    for (const write of writes) won(await write);
  });

  server.test("who writes while nobody answers for the bucket waits until somebody does [FAIL-3]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName, autoCreate: false, backendTimeoutMs: 60_000 });
    await using creator = testStore({ url, bucketName, backendTimeoutMs: 60_000 });
    await creator.open();
    await store.open();
    await deleteBucket(store, bucketName);
    const write = store.kv.compareAndSet("a", bytes("1"), 0);
    // This one creates it again, and may see the write that waited if it asks for the same key.
    assertEquals(await creator.kv.get("b"), null);
    won(await write);
    assertEquals((await store.kv.get("a"))?.value, bytes("1"));
  });

  server.test("a missing permission to write fails the write only; hints that may not be given harm nothing", async () => {
    const allowed = ["$JS.API.>"];
    await using running = await server.start({
      config: `authorization { users: [{ user: a, password: b, permissions: { publish: ${JSON.stringify(allowed)}, ` +
        'subscribe: ["_INBOX.>"] } }] }\n',
    });
    await using store = testStore({ url: running.url, user: "a", password: "b", clock: "local" });
    await using _hint = await store.kv.wake?.("a", () => {});
    store.kv.announce?.("a");
    assertEquals(await outcomeOf(store.kv.compareAndSet("a", bytes("1"), 0)), "not_applied");
    assertEquals(await store.kv.get("a"), null);
    assertEquals(store.log.lines.filter((line) => /^(warn|error)/.test(line)), []);
  });

  server.test("without a permission for its inbox no answer comes, and a write is unknown", async () => {
    await using running = await server.start({
      config: "authorization { users: [{ user: a, password: b }, " +
        '{ user: c, password: d, permissions: { publish: [">"], subscribe: ["other.>"] } }] }\n',
    });
    await using store = testStore({ url: running.url, user: "c", password: "d", backendTimeoutMs: 500 });
    await assertRejects(() => store.open(), StoreUnavailableError);
  });

  server.test("a value that is larger than the server takes is a clear error", async () => {
    await using running = await server.start({ config: "max_payload: 8192\n" });
    await using store = testStore({ url: running.url });
    await assertRejects(
      () => store.kv.compareAndSet("a", new Uint8Array(10_000), 0),
      StoreUnavailableError,
      "max_payload",
    );
    assert((await store.kv.compareAndSet("a", new Uint8Array(4_096), 0)).ok);
  });

  server.test("credentials that are rejected after a restart are said once, to the log and to whoever asks [LOG-1]", async () => {
    const credentials = (password: string) => `authorization { user: a, password: ${password} }\n`;
    await using running = await server.start({ config: credentials("one") });
    await using store = testStore({ url: running.url, user: "a", password: "one", backendTimeoutMs: 500 });
    await store.open();
    running.configure(credentials("two"));
    await running.restart();
    await store.log.heard(/rejected the credentials/);
    // Several more tries fail meanwhile.
    for (let i = 0; i < 4; i++) {
      await assertRejects(
        () => store.kv.get("a"),
        StoreUnavailableError,
        "rejected the credentials, or wants some. Check",
      );
    }
    running.configure(credentials("one"));
    await running.restart();
    await store.log.heard(/connected to .* again/);
    assertEquals(await store.kv.get("a"), null);
    const said = (pattern: RegExp) => store.log.lines.filter((line) => pattern.test(line)).length;
    assertEquals([said(/rejected/), said(/lost the connection/), said(/connected to .* again/)], [1, 1, 1]);
  });

  server.test("a connection that was handed in and closes for good is an error in the log, with what to do [STO-6]", async () => {
    const { url } = await server.shared();
    await using owner = testStore({ url });
    const connection = await connectionOf(owner);
    await using store = testStore({ connection });
    await store.open();
    await connection.close();
    assertStringIncludes(await store.log.heard(/^error: .*was closed/), "with replace: true");
    await assertRejects(() => store.kv.get("a"), StoreUnavailableError, "was closed");
  });
});
