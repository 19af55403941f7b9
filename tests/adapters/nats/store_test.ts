import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { execFile } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { NatsStoreOptions } from "../../../src/adapters/nats/options.ts";
import { ConfigValidationError, StoreUnavailableError } from "../../../src/core/errors.ts";
import { createRateSync } from "../../../src/registry/registry.ts";
import { natsStore } from "../../../src/standalone/nats_store.ts";
import { useVirtualTime } from "../../../src/testing/virtual_time.ts";
import { forEachServer, LIMIT, startServer } from "../../support/nats_server.ts";
import { logBook } from "../../support/log_book.ts";
import { connectionOf, freshBucket, testStore } from "../../support/nats_store.ts";
import { loadedBy } from "../../support/project.ts";

const one = new Uint8Array([1]);
const context = { id: "nats", logger: logBook() };

test("natsStore() checks its options at once and connects to nothing [STO-1]", () => {
  const error = assertThrows(() => natsStore({} as NatsStoreOptions, context), ConfigValidationError);
  assert(error instanceof ConfigValidationError);
  assertEquals(error.field, "stores.nats.url");
  assertEquals(natsStore({ url: "nats://127.0.0.1:1" }, context).isOpen, false);
});

test("importing the store loads nothing of NATS before it is opened", () => {
  assertEquals(loadedBy("src/adapters/nats/store.ts").filter((name) => !name.endsWith(".ts")), []);
});

await forEachServer((server) => {
  /** How many clients the server has, as it says itself. */
  async function connections(url: string): Promise<number> {
    const answer = await fetch(`${url}/connz`);
    const { num_connections } = await answer.json() as { num_connections: number };
    return num_connections;
  }

  /** The server notices a moment later that a client has gone. */
  async function nobodyLeft(url: string): Promise<void> {
    for (let left = 1_000; await connections(url) > 0; left--) {
      if (left === 0) throw new Error("a connection was left behind");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async function monitored() {
    const running = await server.start({ config: 'http: "127.0.0.1:-1"\n' });
    const address = /http monitor on (\S+)/.exec(running.log())?.[1];
    return { running, monitor: `http://${address}` };
  }

  server.test("concurrent first uses open one connection [STO-7, LIM-10]", async () => {
    const { running, monitor } = await monitored();
    await using _server = running;
    await using store = testStore({ url: running.url });
    await Promise.all([
      ...Array.from({ length: 10 }, () => store.open()),
      ...Array.from({ length: 10 }, (_, i) => store.kv.get(`k${i}`)),
      ...Array.from({ length: 10 }, (_, i) => store.kv.compareAndSet(`k${i}`, one, 0)),
      store.kv.delete("x"),
      store.connection(),
      Array.fromAsync(store.kv.keys()),
    ]);
    await store.open();
    assertEquals(await connections(monitor), 1);
  });

  server.test("close() closes the store's own connection, and repeated calls do nothing [LIM-18]", async () => {
    const { running, monitor } = await monitored();
    await using _server = running;
    const store = testStore({ url: running.url });
    await store.kv.compareAndSet("a", one, 0);
    const connection = await connectionOf(store);
    await Promise.all([store.close(), store.close()]);
    await store.close();
    assert(connection.isClosed());
    assertEquals(store.isOpen, false);
    await nobodyLeft(monitor);
  });

  server.test("useVirtualTime() closes the connection that was open [TST-5]", async () => {
    const { running, monitor } = await monitored();
    await using _server = running;
    await using rateSync = createRateSync({ logger: logBook() });
    rateSync.configureStore("nats", { engine: "nats", url: running.url, autoCreate: true });
    rateSync.configureLimiter("api", { store: "nats", ratePerSecond: 1 });
    await rateSync.initializeLimiter("api");
    await using _time = await useVirtualTime({ rateSync });
    await nobodyLeft(monitor);
  });

  server.test("close() while the store opens leaves no connection behind [LIM-18]", async () => {
    const { running, monitor } = await monitored();
    await using _server = running;
    const store = testStore({ url: running.url });
    const opening = assertRejects(() => store.open(), StoreUnavailableError, "it was closed");
    await store.close();
    await opening;
    await nobodyLeft(monitor);
  });

  server.test("a store that was closed says so at every use [LIM-18]", async () => {
    const { url } = await server.shared();
    for (const opened of [true, false]) {
      const store = testStore({ url });
      if (opened) await store.open();
      await store.close();
      const uses = [
        () => store.open(),
        () => store.kv.get("a"),
        () => store.kv.compareAndSet("a", one, 0),
        () => store.kv.delete("a"),
        () => Array.fromAsync(store.kv.keys()),
        () => store.connection(),
      ];
      for (const use of uses) {
        const error = await assertRejects(use, StoreUnavailableError, "Store 'nats': it was closed");
        assert(error instanceof StoreUnavailableError);
        assertEquals(error.outcome, "not_applied");
      }
      store.kv.announce?.("a");
    }
  });

  server.test("a connection that is handed in is used and stays open [STO-6]", async () => {
    const { url } = await server.shared();
    await using owner = testStore({ url });
    const connection = await connectionOf(owner);
    const bucketName = freshBucket();
    const store = testStore({ connection, bucketName });
    assert((await store.kv.compareAndSet("a", one, 0)).ok);
    assertEquals(await connectionOf(store), connection);
    await store.close();
    assert(!connection.isClosed());
    await using again = testStore({ connection, bucketName });
    assertEquals((await again.kv.get("a"))?.value, one);
  });

  server.test("a store on a connection that is handed in leaves no subscription behind [STO-6]", async () => {
    const { running, monitor } = await monitored();
    await using _server = running;
    await using owner = testStore({ url: running.url });
    const connection = await connectionOf(owner);
    const subscriptions = async () => {
      await connection.flush();
      const { connections } = await (await fetch(`${monitor}/connz`)).json() as {
        connections: { subscriptions: number }[];
      };
      return connections.map(({ subscriptions }) => subscriptions);
    };
    const before = await subscriptions();
    const store = testStore({ connection, bucketName: freshBucket() });
    await store.kv.compareAndSet("a", one, 0);
    store.peers?.serve("writer-1", () => {});
    assertNotEquals(await subscriptions(), before);
    await store.close();
    assertEquals(await subscriptions(), before);
  });

  server.test("a store that was closed says nothing more about the connection that was handed in [STO-6, LOG-1]", async () => {
    await using running = await server.start();
    await using owner = testStore({ url: running.url });
    const connection = await connectionOf(owner);
    const store = testStore({ connection });
    await store.open();
    await store.close();
    const said = [...store.log.lines];
    await running.stop();
    await running.restart();
    await owner.log.heard(/again$/);
    await connection.flush();
    assertEquals(store.log.lines, said);
  });

  server.test("a connection that was handed in and then closed by its owner is a clear error [STO-6]", async () => {
    const { url } = await server.shared();
    await using owner = testStore({ url });
    await using store = testStore({ connection: await connectionOf(owner) });
    await store.open();
    await owner.close();
    await assertRejects(() => store.kv.get("a"), StoreUnavailableError, "closed");
    await using late = testStore({ connection: await connectionOf(owner).catch(() => store.connection()) });
    await assertRejects(() => late.open(), StoreUnavailableError, "closed");
  });

  server.test("open() with the server down fails with a clear error, and the next call tries again [FAIL-2, FAIL-3]", async () => {
    await using running = await server.start();
    await running.stop();
    await using store = testStore({ url: running.url });
    for (let i = 0; i < 2; i++) {
      const error = await assertRejects(() => store.open(), StoreUnavailableError, "nothing accepts connections");
      assert(error instanceof StoreUnavailableError);
      assertStringIncludes(error.message, running.host);
      await assertRejects(() => store.kv.get("a"), StoreUnavailableError);
    }
    await running.restart();
    assertEquals(await store.kv.get("a"), null);
    assert(store.isOpen);
  });

  server.test("open() is bounded by backendTimeoutMs when the server is frozen [FAIL-2]", async () => {
    await using running = await server.start();
    await running.kill("SIGSTOP");
    await using store = testStore({ url: running.url, backendTimeoutMs: 1_000 });
    await assertRejects(() => store.open(), StoreUnavailableError, "within 1000 ms");
    await running.kill("SIGCONT");
    // Only the test's own limit says how long it may take to go on.
    const isOpen = () =>
      store.open().then(() => true, (error) => {
        assertInstanceOf(error, StoreUnavailableError);
        return false;
      });
    while (!await isOpen());
    assert(store.isOpen);
  });

  server.test("a lost connection is logged as a warning, and its return as information [LOG-1]", async () => {
    await using running = await server.start();
    await using store = testStore({ url: running.url });
    await store.open();
    assertMatch(store.log.lines.join("\n"), /info: Store 'nats': created the KV bucket/);
    await running.stop();
    assertMatch(await store.log.heard(/lost/), /^warn: Store 'nats': lost the connection to 127\.0\.0\.1:\d+/);
    await running.restart();
    assertMatch(await store.log.heard(/again$/), /^warn: Store 'nats': connected to .* again$/);
  });
});

test("a store that was closed keeps no process alive [LIM-18]", LIMIT, async () => {
  await using running = await startServer();
  const child = fileURLToPath(new URL("../../support/nats_child.ts", import.meta.url));
  const args = "Deno" in globalThis ? ["run", "-A", "--no-check", child] : [child];
  const output = await new Promise<string>((resolve, reject) => {
    const options = { timeout: 60_000, killSignal: "SIGKILL" } as const;
    execFile(
      process.execPath,
      [...args, running.url],
      options,
      (error, stdout) => error ? reject(error) : resolve(stdout),
    );
  });
  assertEquals(output.trim(), "closed");
});
