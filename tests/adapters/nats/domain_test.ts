import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createRateSync, type RateSync, StoreUnavailableError } from "../../../mod.ts";
import { forEachServer, type RunningServer, type ServerUnderTest } from "../../support/nats_server.ts";
import { logBook } from "../../support/log_book.ts";
import { freshBucket, PATIENT_MS, testStore } from "../../support/nats_store.ts";

/** A hub with JetStream, and a leaf node with a JetStream of its own. */
interface Tree extends AsyncDisposable {
  readonly hub: RunningServer;
  readonly leaf: RunningServer;
}

async function startTree(server: ServerUnderTest, config: { readonly leaf?: string } = {}): Promise<Tree> {
  const hub = await server.start({ name: "hub", domain: "hub", config: `leafnodes { listen: "127.0.0.1:-1" }` });
  try {
    const port = /leafnode connections on [^\n]*:(\d+)/.exec(hub.log())?.[1];
    // It is restarted on the same port.
    hub.configure(`leafnodes { listen: "127.0.0.1:${port}" }`);
    const leaf = await server.start({
      name: "leaf",
      domain: "leaf",
      config: `leafnodes { remotes: [{ url: "nats://127.0.0.1:${port}" }] }\n${config.leaf ?? ""}`,
    });
    await joined(leaf);
    return {
      hub,
      leaf,
      async [Symbol.asyncDispose]() {
        await leaf[Symbol.asyncDispose]();
        await hub[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await hub[Symbol.asyncDispose]();
    throw error;
  }
}

/** Waits until what is published on the leaf node reaches the hub, which is some time after it is ready. */
async function joined(leaf: RunningServer): Promise<void> {
  const url = leaf.url.replace("//", "//a:a@");
  for (let message = ""; !message.includes("not found");) {
    await using store = testStore({ url, domain: "hub", autoCreate: false });
    message = await store.open().then(() => "", (error: Error) => error.message);
  }
}

const WINDOW_LIMIT = 40;

/** One more process, with a limit that gives nothing back during a test. */
function processOn(place: { readonly url: string; readonly bucketName: string; readonly domain?: string }): RateSync {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("nats", {
    engine: "nats",
    autoCreate: true,
    storage: "memory",
    backendTimeoutMs: PATIENT_MS,
    ...place,
  });
  const window = { algorithm: "sliding_window", limit: WINDOW_LIMIT, windowMs: 3_600_000 } as const;
  rateSync.configureLimiter("window", { store: "nats", failClosed: true, ...window });
  return rateSync;
}

/** All processes at once take what there is. How many were admitted. */
async function takeAll(processes: readonly RateSync[]): Promise<number> {
  const callers = processes.flatMap((rateSync) =>
    Array.from({ length: WINDOW_LIMIT }, async () => (await rateSync.getLimiter("window").tryAcquire()).allowed)
  );
  return (await Promise.all(callers)).filter(Boolean).length;
}

await forEachServer((server) => {
  server.test("processes on a leaf node and on its hub share the limits of the hub's domain", async () => {
    await using tree = await startTree(server);
    const bucketName = freshBucket();
    await using near = processOn({ url: tree.hub.url, bucketName });
    await near.getLimiter("window").initialize();
    await using far = processOn({ url: tree.leaf.url, bucketName, domain: "hub" });
    await using farther = processOn({ url: tree.leaf.url, bucketName, domain: "hub" });
    assertEquals(await takeAll([near, far, farther]), WINDOW_LIMIT);
    // What they have used is one and the same, and the hub's time counts everywhere.
    for (const rateSync of [near, far, farther]) {
      const limiter = rateSync.getLimiter("window");
      assertEquals((await limiter.getState()).remaining, 0);
      assertEquals(limiter.getClock().source, "server");
    }
    // The leaf node has a bucket of its own, with a limit of its own.
    await using apart = processOn({ url: tree.leaf.url, bucketName });
    assertEquals(await takeAll([apart]), WINDOW_LIMIT);
  });

  server.test("a store in another domain reads, compares, lists, deletes and wakes", async () => {
    await using tree = await startTree(server);
    await using store = testStore({ url: tree.leaf.url, domain: "hub", partitions: 2 });
    const value = new TextEncoder().encode("1");
    for (const key of ["a", "b", "c", "d"]) {
      assertEquals((await store.kv.compareAndSet(key, value, 0, 60_000)).ok, true);
      assertEquals(await store.kv.compareAndSet(key, value, 0, 60_000), { ok: false });
      assertEquals((await store.kv.get(key))?.value, value);
    }
    assertEquals((await Array.fromAsync(store.kv.keys())).sort(), ["a", "b", "c", "d"]);
    await store.kv.delete("a");
    assertEquals(await store.kv.get("a"), null);
    const woken = Promise.withResolvers<void>();
    await using _ = await store.kv.wake!("b", woken.resolve);
    store.kv.announce!("b");
    await woken.promise;
  });

  server.test("what is wrong in another domain is said with its name", async () => {
    await using tree = await startTree(server);
    const bucketName = freshBucket();
    await using none = testStore({ url: tree.leaf.url, bucketName, domain: "nowhere", backendTimeoutMs: 2_000 });
    const nobody = await assertRejects(() => none.open(), StoreUnavailableError);
    assertStringIncludes(nobody.message, "nobody answers for the JetStream domain 'nowhere'");

    await using missing = testStore({ url: tree.leaf.url, bucketName, domain: "hub", autoCreate: false });
    const notFound = await assertRejects(() => missing.open(), StoreUnavailableError);
    assertStringIncludes(notFound.message, `KV bucket '${bucketName}' not found in the JetStream domain 'hub'.`);
    assertStringIncludes(notFound.message, `nats --js-domain hub kv add ${bucketName} `);
  });

  server.test("a leaf node that is cut off from its hub is an outage, which ends by itself", async () => {
    await using tree = await startTree(server);
    const place = { url: tree.leaf.url, bucketName: freshBucket(), domain: "hub", storage: "file" } as const;
    await using store = testStore({ ...place, backendTimeoutMs: 1_000 });
    const value = new TextEncoder().encode("1");
    assertEquals((await store.kv.compareAndSet("a", value, 0)).ok, true);
    await tree.hub.stop();
    await assertRejects(() => store.kv.get("a"), StoreUnavailableError);
    await tree.hub.restart();
    await joined(tree.leaf);
    assertEquals((await store.kv.get("a"))?.value, value);
  });

  server.test("a missing permission is reported at once, as the server that checks it names the subject", async () => {
    const may = (...subjects: string[]) =>
      `authorization { users: [{ user: a, password: a, permissions: { publish: ${JSON.stringify(subjects)} } }] }`;
    await using tree = await startTree(server, { leaf: may("$JS.hub.API.STREAM.>") });
    await using alone = await server.start({ domain: "hub", config: may("$JS.API.STREAM.>") });
    for (
      const [{ url }, value] of [[tree.leaf, "$JS.hub.API.$KV"], [alone, "$KV"]] as const
    ) {
      const bucketName = freshBucket();
      // Before 2.10, the server's clock takes a write, for which this user has no permission either.
      await using store = testStore({ url: url.replace("//", "//a:a@"), bucketName, domain: "hub", clock: "local" });
      const write = () => store.kv.compareAndSet("secret-key", new Uint8Array(1), 0);
      const refused = await assertRejects(write, StoreUnavailableError);
      assertStringIncludes(refused.message, `may not publish on '${value}.${bucketName}.>'`);
      assertEquals(refused.outcome, "not_applied");
    }
  });
});
