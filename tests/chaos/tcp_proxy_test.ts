import { assertEquals, assertGreater } from "@std/assert";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { startProxy, type TcpProxy } from "../support/tcp_proxy.ts";

/** What arrived at one end. */
interface End {
  readonly socket: Socket;
  /** Resolves when this has arrived, and nothing else since the last time. */
  heard(text: string): Promise<void>;
  readonly closed: Promise<unknown>;
}

function endOf(socket: Socket): End {
  let text = "";
  let changed = () => {};
  socket.on("error", () => {});
  socket.on("data", (data) => {
    text += data;
    changed();
  });
  return {
    socket,
    async heard(expected) {
      while (text.length < expected.length) await new Promise<void>((resolve) => changed = resolve);
      assertEquals(text, expected);
      text = "";
    },
    closed: new Promise<void>((resolve) => socket.on("close", () => resolve())),
  };
}

/** A server that is reached through a proxy, with connections to it. */
async function startBehind(): Promise<AsyncDisposable & { proxy: TcpProxy; open(): Promise<readonly [End, End]> }> {
  const server = createServer();
  const accepted: Socket[] = [];
  server.on("connection", (socket) => accepted.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const proxy = await startProxy(address.port);
  return {
    proxy,
    async open() {
      const arrived = once(server, "connection");
      const client = connect(Number(new URL(proxy.url).port), "127.0.0.1");
      await Promise.all([arrived, once(client, "connect")]);
      return [endOf(client), endOf(accepted.at(-1)!)]; // it has just arrived
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      for (const socket of accepted) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("the proxy carries both ways, and an end of one side", async () => {
  await using behind = await startBehind();
  const [client, server] = await behind.open();
  client.socket.write("ping");
  await server.heard("ping");
  server.socket.write("pong");
  await client.heard("pong");
  assertEquals(behind.proxy.connections, 1);
  client.socket.end();
  await server.closed;
});

test("the proxy holds back one direction, and lets it go in order", async () => {
  await using behind = await startBehind();
  const [client, server] = await behind.open();
  behind.proxy.hold("to server");
  client.socket.write("one ");
  server.socket.write("answer");
  await client.heard("answer");
  client.socket.write("two");
  await new Promise((resolve) => setTimeout(resolve, 50));
  await server.heard("");
  behind.proxy.open();
  await server.heard("one two");
});

test("the proxy cuts connections in the middle: what it held is lost, and the next connection works", async () => {
  await using behind = await startBehind();
  const [client, server] = await behind.open();
  behind.proxy.hold("to server", "to client");
  client.socket.write("lost");
  await new Promise((resolve) => setTimeout(resolve, 50));
  behind.proxy.cut();
  await Promise.all([client.closed, server.closed]);
  await server.heard("");
  behind.proxy.open();
  const [again, reached] = await behind.open();
  again.socket.write("hello");
  await reached.heard("hello");
});

test("the proxy delays a direction, and keeps the order", async () => {
  await using behind = await startBehind();
  const [client, server] = await behind.open();
  behind.proxy.delay("to server", 60);
  const sent = performance.now();
  client.socket.write("slow ");
  client.socket.write("and after it");
  await server.heard("slow and after it");
  // A timer may end a moment early.
  assertGreater(performance.now() - sent, 58);
});
