import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { nkeys } from "@nats-io/nats-core";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { NatsStoreOptions } from "../../../src/adapters/nats/options.ts";
import { ConfigValidationError, RateLimiterAcquisitionError, StoreUnavailableError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { createRateSync } from "../../../src/registry/registry.ts";
import { makeCredentials } from "../../support/nats_jwt.ts";
import { forEachServer, type RunningServer } from "../../support/nats_server.ts";
import { connectionOf, testStore } from "../../support/nats_store.ts";
import { sightsOf } from "../../support/sights.ts";

const folder = mkdtempSync(join(tmpdir(), "ratesync-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const tls = (name: string) => join(dirname(fileURLToPath(import.meta.url)), "..", "..", "support", "nats_tls", name);

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Uses a store with these options for one write and one read. */
async function works(options: NatsStoreOptions): Promise<void> {
  await using store = testStore(options);
  assert((await store.kv.compareAndSet("a", new Uint8Array([1]), 0)).ok);
  assertEquals((await store.kv.get("a"))?.value, new Uint8Array([1]));
  const shown = [sightsOf(store), ...store.log.lines].join("\n");
  assert(!shown.includes("s3cr3t"), shown);
}

/** Expects that a store with these options cannot be opened, and that no secret shows. */
async function fails(options: NatsStoreOptions, sentence: string, ...secrets: string[]): Promise<void> {
  await using store = testStore(options);
  const error = await assertRejects(() => store.open(), Error);
  assert(error instanceof StoreUnavailableError || error instanceof ConfigValidationError, String(error));
  assertStringIncludes(error.message, sentence);
  const shown = [sightsOf(error), sightsOf(store), ...store.log.lines].join("\n");
  for (const secret of ["s3cr3t", ...secrets]) assert(!shown.includes(secret), shown);
}

const hostOf = (server: RunningServer, userinfo: string) => `nats://${userinfo}@${server.host}`;

await forEachServer((server) => {
  server.test("a token works, in the URL and as an option, and a wrong one is rejected [NATS-3]", async () => {
    await using running = await server.start({ config: 'authorization { token: "s3cr3t/1" }\n' });
    await works({ url: hostOf(running, "s3cr3t%2F1") });
    await works({ url: running.url, token: "s3cr3t/1" });
    await fails({ url: hostOf(running, "s3cr3twrong") }, `${running.host} rejected the credentials`);
    await fails({ url: running.url, token: "s3cr3twrong" }, `${running.host} rejected the credentials`);
    await fails({ url: running.url }, `${running.host} rejected the credentials`);
  });

  server.test("user and password work, in the URL and as options, and wrong ones are rejected [NATS-3]", async () => {
    await using running = await server.start({ config: 'authorization { user: "num", password: "s3cr3t:@123" }\n' });
    await works({ url: hostOf(running, "num:s3cr3t%3A%40123") });
    await works({ url: hostOf(running, "num:s3cr3t:@123") });
    await works({ url: running.url, user: "num", password: "s3cr3t:@123" });
    for (let i = 0; i < 10; i++) {
      await fails({ url: hostOf(running, "num:s3cr3twrong") }, `${running.host} rejected the credentials`);
    }
  });

  server.test("a store that was rejected works once the server accepts it [NATS-3]", async () => {
    await using running = await server.start({ config: "authorization { user: a, password: s3cr3told }\n" });
    await using store = testStore({ url: running.url, user: "a", password: "s3cr3tnew" });
    await assertRejects(() => store.open(), StoreUnavailableError, "rejected the credentials");
    running.configure("authorization { user: a, password: s3cr3tnew }\n");
    await running.restart();
    await store.open();
  });

  server.test("an NKey seed file works, and a wrong one is rejected [NATS-3]", async () => {
    const [user, other] = [nkeys.createUser(), nkeys.createUser()];
    const seedOf = (key: typeof user) => new TextDecoder().decode(key.getSeed());
    await using running = await server.start({
      config: `authorization { users: [{ nkey: ${user.getPublicKey()} }] }\n`,
    });
    const nkeySeedFile = file("user.nk", `# a comment\r\n${seedOf(user)}\r\n`);
    await works({ url: running.url, nkeySeedFile });
    const wrong = file("other.nk", seedOf(other));
    await fails({ url: running.url, nkeySeedFile: wrong }, "rejected the credentials", seedOf(other));
  });

  server.test("a .creds file works, with any line ends [NATS-3]", async () => {
    const { config, creds } = makeCredentials();
    await using running = await server.start({ config });
    await works({ url: running.url, credentialsFile: file("user.creds", creds) });
    await works({ url: running.url, credentialsFile: file("dos.creds", creds.replaceAll("\n", "\r\n")) });
    await fails({ url: running.url }, "rejected the credentials");
  });

  server.test("credentials may come through a pipe, which says them once [NATS-3]", async () => {
    const { config, creds } = makeCredentials();
    await using running = await server.start({ config });
    const pipe = join(folder, `pipe-${running.port}`);
    execFileSync("mkfifo", [pipe]);
    const writing = spawn("sh", ["-c", 'cat "$1" > "$2"', "sh", file("piped.creds", creds), pipe], { stdio: "ignore" });
    await works({ url: running.url, credentialsFile: pipe });
    writing.kill();
  });

  server.test("credentials that are renewed in their file count from the next login on [NATS-3, FAIL-3]", async () => {
    const [before, after] = [makeCredentials(), makeCredentials()];
    await using running = await server.start({ config: before.config });
    const credentialsFile = file("renewed.creds", before.creds);
    await using store = testStore({ url: running.url, credentialsFile });
    const isUp = () => store.kv.get("a").then(() => true, () => false);
    assert(await isUp());
    writeFileSync(credentialsFile, after.creds);
    running.configure(after.config);
    await running.restart();
    while (!await isUp()) await new Promise((done) => setTimeout(done, 20));
    // A file that is gone for a moment, or half written, changes nothing.
    writeFileSync(credentialsFile, "");
    await running.restart();
    while (!await isUp()) await new Promise((done) => setTimeout(done, 20));
  });

  server.test("a file with credentials that cannot be used is an error that names it [NATS-3]", async () => {
    const { url } = await server.shared();
    const broken = file("broken", "s3cr3t");
    const missing = join(folder, "missing");
    await fails({ url, nkeySeedFile: missing }, `Store 'nats': The file '${missing}' does not exist`);
    await fails({ url, credentialsFile: missing }, `'${missing}' does not exist`);
    await fails({ url, credentialsFile: folder }, `'${folder}' is a directory`);
    await fails({ url, nkeySeedFile: broken }, `'${broken}' holds no credentials`);
    await fails({ url, nkeySeedFile: file("damaged", "SUAAAAAAAAAAAAAAAAAA") }, "holds no credentials", "SUAAAA");
    await fails({ url, credentialsFile: broken }, `'${broken}' holds no credentials`);
    await fails({ url: `tls://${url.slice(7)}`, tlsCaFile: missing }, `'${missing}' does not exist`);
    await fails({ url: `tls://${url.slice(7)}`, tlsCaFile: broken }, `'${broken}' holds no PEM block`);
  });

  const serverTls = `cert_file: "${tls("server.pem")}", key_file: "${tls("server-key.pem")}"`;

  server.test("tls:// is encrypted and checks the server's certificate [NATS-3]", async () => {
    await using running = await server.start({ config: `tls { ${serverTls} }\n` });
    const url = `tls://${running.host}`;
    await works({ url, tlsCaFile: tls("ca.pem") });
    await works({ url: `tls://localhost:${running.port}`, tlsCaFile: tls("ca.pem") });
    await works({ url: running.url, tlsCaFile: tls("ca.pem") });
    await fails({ url, tlsCaFile: tls("other-ca.pem") }, `the TLS certificate of ${running.host} is not trusted`);
    await fails({ url }, `the TLS certificate of ${running.host} is not trusted`);
  });

  server.test("tls:// sends no credentials to a server that has no TLS [NATS-3]", async () => {
    await using running = await server.start({ config: "authorization { user: a, password: s3cr3t }\n" });
    await fails({ url: `tls://a:s3cr3t@${running.host}` }, `${running.host} does not offer TLS`);
  });

  server.test("a client certificate works, and one that is missing is said to be [NATS-3]", async () => {
    const config = `tls { ${serverTls}, ca_file: "${tls("ca.pem")}", verify: true }\n`;
    await using running = await server.start({ config });
    const url = `tls://${running.host}`;
    const tlsCaFile = tls("ca.pem");
    await works({ url, tlsCaFile, tlsCertFile: tls("client.pem"), tlsKeyFile: tls("client-key.pem") });
    await fails({ url, tlsCaFile, backendTimeoutMs: 500 }, "client certificate");
  });

  server.test("what does not fit into one read or one write arrives whole, and in order", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url });
    const values = [1, 10_000, 4_096, 300_000, 65_536, 900_000].map((size, i) => new Uint8Array(size).fill(i + 1));
    await Promise.all(values.map((value, i) => store.kv.compareAndSet(`${i}`, value, 0)));
    const read = await Promise.all(values.map((_, i) => store.kv.get(`${i}`)));
    assertEquals(read.map((entry) => entry?.value.length), values.map(({ length }) => length));
    assert(read.every((entry, i) => entry?.value.every((byte) => byte === i + 1)));
  });

  server.test("ws:// works, with credentials too [NATS-3]", async () => {
    await using running = await server.start({
      config: `websocket { listen: "127.0.0.1:-1", no_tls: true }\nauthorization { user: a, password: s3cr3t }\n`,
    });
    const host = running.websocketUrl?.slice("ws://".length) ?? "";
    await works({ url: `ws://a:s3cr3t@${host}` });
    await works({ url: `ws://a:s3cr3t@${host}/?key=s3cr3t` });
    await works({ url: `ws://a:s3cr3t@${host}?key=s3cr3t` });
    await fails({ url: `ws://a:s3cr3twrong@${host}?key=s3cr3t` }, `${host} rejected the credentials`);
    await fails({ url: `ws://a:s3cr3twrong@${host}` }, `${host} rejected the credentials`);
    await fails({ url: "ws://127.0.0.1:1", backendTimeoutMs: 1_000 }, "127.0.0.1:1");
  });

  server.test("a list of URLs works when its first server is dead [NATS-3]", async () => {
    const { host, url } = await server.shared();
    await works({ url: `nats://127.0.0.1:1,${url}` });
    await works({ url: `127.0.0.1:1, 127.0.0.1:2, ${host}` });
    await fails(
      { url: "nats://127.0.0.1:1,nats://127.0.0.1:2" },
      "nothing accepts connections at 127.0.0.1:1, 127.0.0.1:2",
    );
  });

  server.test("a server of the list that was down at the start is used once it is needed [NATS-3, FAIL-3]", async () => {
    await using first = await server.start();
    await using last = await server.start();
    await first.stop();
    // Which one is tried first is left to chance.
    for (let tries = 0; tries < 8; tries++) {
      await using store = testStore({ url: `${first.url},${last.url}` });
      const connection = await connectionOf(store);
      assertEquals(connection.getServers().map(({ listen }) => listen).sort(), [first.host, last.host].sort());
    }
    {
      const name = last.host.replace("127.0.0.1", "LOCALHOST");
      await using store = testStore({ url: `nats://${name},${first.url}` });
      const connection = await connectionOf(store);
      assertEquals(connection.getServers().length, 2);
    }
    await using store = testStore({ url: `${first.url},${last.url}` });
    await store.open();
    await first.restart();
    await last.stop();
    while (!(await store.kv.get("a").then(() => true, () => false))) await new Promise((done) => setTimeout(done, 20));
  });

  server.test("what follows a ? in the URL of a WebSocket is shown nowhere [STO-5]", async () => {
    await fails({ url: "ws://127.0.0.1:1/?access_token=s3cr3t", backendTimeoutMs: 1_000 }, "127.0.0.1:1");
    await fails({ url: "ws://127.0.0.1:1/#s3cr3t", backendTimeoutMs: 1_000 }, "127.0.0.1:1");
  });

  server.test("a list of URLs works when one of its servers accepts and says nothing [NATS-3]", async () => {
    const { url } = await server.shared();
    await using silent = await startSilent();
    // Which of the two is asked first is drawn, and half of this is what the silent one takes.
    do await works({ url: `${silent.url},${url}`, backendTimeoutMs: 4_000 }); while (silent.accepted() === 0);
  });

  server.test("a server without JetStream is said to be one [ERR-5]", async () => {
    await using running = await server.start({ jetStream: false });
    await fails({ url: running.url }, `nobody answers for JetStream at ${running.host}`);
  });

  server.test("a user without the permissions is told which one is missing [ERR-5]", async () => {
    const user = (allow: string[]) =>
      `{ user: a, password: s3cr3t, permissions: { publish: ${JSON.stringify(allow)}, ` +
      'subscribe: ["_INBOX.>"] } }';
    await using running = await server.start({ config: `authorization { users: [${user(["nothing"])}] }\n` });
    await fails({ url: hostOf(running, "a:s3cr3t"), bucketName: "b" }, "may not publish on '$JS.API.STREAM.INFO.KV_b'");
    running.configure(`authorization { users: [${user(["$JS.API.STREAM.INFO.*"])}] }\n`);
    await running.restart();
    await fails(
      { url: hostOf(running, "a:s3cr3t"), bucketName: "b" },
      "may not publish on '$JS.API.STREAM.CREATE.KV_b'",
    );
    running.configure("authorization { users: [{ user: a, password: s3cr3t, permissions: { subscribe: [x] } }] }\n");
    await running.restart();
    await fails({ url: hostOf(running, "a:s3cr3t"), bucketName: "b" }, "may not subscribe to '_INBOX.>'");
  });

  server.test("with failClosed every missing permission shows at start-up, by name [LIM-9, ERR-5, FAIL-2]", async () => {
    const needed = ["$JS.API.STREAM.INFO.KV_b", "$JS.API.STREAM.MSG.GET.KV_b", "$KV.b.>"];
    const users = [undefined, ...needed].map((missing, i) => {
      const allowed = needed.filter((subject) => subject !== missing);
      return `{ user: u${i}, password: p, permissions: { publish: ${
        JSON.stringify(allowed)
      }, subscribe: ["_INBOX.>"] } }`;
    });
    const setup = '{ user: setup, password: p, permissions: { publish: [">"], subscribe: [">"] } }';
    await using running = await server.start({
      config: `authorization { users: [${[setup, ...users].join("\n")}] }\n`,
    });
    await using store = testStore({ url: hostOf(running, "setup:p"), bucketName: "b" });
    await store.open();
    const start = async (user: string) => {
      await using rateSync = createRateSync({ logger: silentLogger });
      rateSync.configureStore("nats", { engine: "nats", url: hostOf(running, `${user}:p`), bucketName: "b" });
      rateSync.configureLimiter("api", { store: "nats", ratePerSecond: 1, failClosed: true });
      await rateSync.initializeAllLimiters();
    };
    await start("u0");
    for (const [i, missing] of needed.entries()) {
      const error = await assertRejects(() => start(`u${i + 1}`), RateLimiterAcquisitionError);
      assertStringIncludes(error.message, `the user may not publish on '${missing}'`);
    }
  });
});

test("what does not answer as a server does is named while a store waits for it, and by the error [ERR-5]", async () => {
  await using silent = await startSilent();
  await using store = testStore({ url: silent.url, backendTimeoutMs: 1_000 });
  const opening = assertRejects(() => store.open(), StoreUnavailableError, "be no nats-server");
  while (silent.accepted() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assertStringIncludes(store.problem ?? "", `${silent.url.slice("nats://".length)} has not completed the connection`);
  await opening;
  assertEquals(store.problem, undefined);
});

test("a runtime without WebSockets cannot use ws:// and wss://, and says so [ERR-5]", async () => {
  const { WebSocket } = globalThis;
  Reflect.deleteProperty(globalThis, "WebSocket");
  try {
    for (const url of ["ws://127.0.0.1:1", "wss://127.0.0.1:1"]) {
      await using store = testStore({ url });
      await assertRejects(() => store.open(), ConfigValidationError, "Use nats:// or tls://");
    }
  } finally {
    Object.assign(globalThis, { WebSocket });
  }
});

test("a server that hangs up before it has said anything is an error that names it, and at once [ERR-5]", async () => {
  const listener = createServer((socket) => void socket.destroy());
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const host = `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  await fails({ url: `nats://${host}` }, `${host} answered with an error`);
  await new Promise((resolve) => listener.close(resolve));
});

test("a host that does not exist is said to [ERR-5]", async () => {
  await fails({ url: "nats://no-such-host.invalid", backendTimeoutMs: 2_000 }, "no-such-host.invalid:4222");
});

/** Something that accepts connections and never says a word. */
async function startSilent(): Promise<{ readonly url: string; accepted(): number } & AsyncDisposable> {
  const sockets = new Set<{ destroy(): void }>();
  const listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  const port = await new Promise<number>((resolve) =>
    listener.listen(0, "127.0.0.1", () => {
      const address = listener.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  return {
    url: `nats://127.0.0.1:${port}`,
    accepted: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
