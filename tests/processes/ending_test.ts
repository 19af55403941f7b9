import { assert, assertEquals } from "@std/assert";
import type { ChildProcess } from "node:child_process";
import { test } from "node:test";
import { createRateSync } from "../../mod.ts";
import { lineOf, outputOf, startChild, startInNode } from "../support/child.ts";
import type { EndingOrder } from "../support/ending_process.ts";
import { forEachServer, LIMIT, startServer } from "../support/nats_server.ts";
import { freshBucket, PATIENT_MS } from "../support/nats_store.ts";
import { startProxy } from "../support/tcp_proxy.ts";

/** One that does not end by itself has failed, and shall not stay. */
const STUCK_MS = 60_000;

function start(order: EndingOrder, startProgram = startChild): ChildProcess {
  const child = startProgram("tests/support/ending_process.ts", JSON.stringify(order));
  const stuck = setTimeout(() => child.kill("SIGKILL"), STUCK_MS);
  child.once("exit", () => clearTimeout(stuck));
  return child;
}

/** What a process prints that ends by itself. */
async function endingOf(order: EndingOrder, startProgram = startChild): Promise<string> {
  return (await outputOf(start(order, startProgram))).trim();
}

/** How many permits of the limiter are held, as the server says. */
async function held(url: string, bucketName: string, key?: string): Promise<number> {
  await using rateSync = createRateSync();
  rateSync.configureStore("nats", { engine: "nats", url, bucketName, backendTimeoutMs: PATIENT_MS });
  rateSync.configureLimiter("permits", { store: "nats", maxConcurrent: 3, onFailure: "closed" });
  const limiter = rateSync.getLimiter("permits");
  return (await (key === undefined ? limiter : limiter.key(key)).getState()).currentUsage;
}

test(
  "a program that only used memory ends by itself, without close() and with a permit that it never released",
  LIMIT,
  async () => {
    assertEquals(await endingOf({ way: "memory, without close" }), "waited true, true,true,false, lost false");
  },
);

test("a program does not end while somebody waits for a slot or a permit", LIMIT, async () => {
  const lines = (await endingOf({ way: "memory, who waits is served before the end" })).split("\n");
  assertEquals(lines.sort(), ["handed on", "served"]);
});

test("close() in memory answers who waits, and the program ends [LIM-18]", LIMIT, async () => {
  assertEquals(await endingOf({ way: "memory, closed" }), "closed,closed, lost true");
});

const ON_RESET = "lost true, after 300000 ms";

test("a program ends that has reset limiters, and had them in virtual time [TST-4]", LIMIT, async () => {
  assertEquals(await endingOf({ way: "memory, reset, and for a while in virtual time" }), ON_RESET);
});

test("a program ends by itself that waits in virtual time for what never comes [TST-5]", LIMIT, async () => {
  for (const startProgram of [startChild, startInNode]) {
    assertEquals(await endingOf({ way: "virtual time, in which nothing happens any more" }, startProgram), "waiting");
  }
});

test("in Node programs do the same, and end [LIM-18, TST-4]", LIMIT, async () => {
  await using running = await startServer();
  const inNode = (way: EndingOrder["way"]) =>
    endingOf({ way, url: running.url, bucketName: freshBucket() }, startInNode);
  assertEquals(await inNode("memory, without close"), "waited true, true,true,false, lost false");
  assertEquals(await inNode("memory, closed"), "closed,closed, lost true");
  assertEquals(await inNode("memory, reset, and for a while in virtual time"), ON_RESET);
  assertEquals(await inNode("nats, closed"), "closed,closed,closed,closed,closed, lost true,true,true,true");
  assertEquals(await inNode("nats, used again after it was closed"), "closed");
  assertEquals(await inNode("nats, over a connection that was handed in"), "closed false");
});

await forEachServer((server) => {
  server.test("close() gives everything back to the server at once, and the program ends [LIM-18]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    const ending = await endingOf({ way: "nats, closed", url, bucketName });
    assertEquals(ending, "closed,closed,closed,closed,closed, lost true,true,true,true");
    assertEquals([await held(url, bucketName), await held(url, bucketName, "alice")], [0, 0]);
  });

  server.test("a registry that was closed is opened again by the next use, and its old limiters say so [LIM-18]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    assertEquals(await endingOf({ way: "nats, used again after it was closed", url, bucketName }), "closed");
    assertEquals(await held(url, bucketName), 0);
  });

  server.test("close() leaves a connection that was handed in open, and gives back what was taken over it [STO-6]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    const ending = await endingOf({ way: "nats, over a connection that was handed in", url, bucketName });
    assertEquals(ending, "closed false");
    assertEquals(await held(url, bucketName), 0);
  });

  for (const outage of ["killed", "stopped", "unreachable"] as const) {
    server.test(`close() while the server is ${outage} ends, and so does the program [LIM-18, FAIL-2]`, async () => {
      await using running = await server.start();
      await using proxy = await startProxy(running.port);
      const order = { url: proxy.url, bucketName: freshBucket() };
      const child = start({ way: "nats, closed when told", ...order });
      assertEquals(await lineOf(child), "ready");
      if (outage === "killed") await running.kill("SIGKILL");
      else if (outage === "stopped") await running.kill("SIGSTOP");
      else proxy.hold("to server", "to client");
      const output = outputOf(child);
      child.stdin?.end("now\n");
      assertEquals((await output).trim(), "closed");
      if (outage === "stopped") await running.kill("SIGCONT");
    });
  }

  server.test("a program ends by itself whose server accepted the connection and never said anything [LIM-18]", async () => {
    await using running = await server.start();
    await using proxy = await startProxy(running.port);
    proxy.hold("to client");
    const order = { url: proxy.url, bucketName: freshBucket() };
    assertEquals(await endingOf({ way: "nats, of which nobody hears anything", ...order }), "backend\nbackend");
  });

  server.test("close() while the store is being opened answers who waits for that, and the program ends", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    const ending = await endingOf({ way: "nats, closed while it connects", url, bucketName });
    assertEquals(ending, "closed,closed");
  });
});

test("a program with an open connection stays until it is closed, as with every client of NATS", LIMIT, async () => {
  await using running = await startServer();
  const child = start({ way: "nats, without close", url: running.url, bucketName: freshBucket() });
  assertEquals(await lineOf(child), "used");
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert(child.exitCode === null && child.signalCode === null, "it has ended");
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
});
