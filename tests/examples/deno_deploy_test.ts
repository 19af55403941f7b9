import { assertEquals, assertStringIncludes } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { LIMIT, type Signal, startServer } from "../support/nats_server.ts";
import { readText, ROOT } from "../support/project.ts";

/** One that does not end by itself has failed, and shall not stay. */
const STUCK_MS = 60_000;

/** Serves a worker as somebody in a shell would, with its limits on the server at `natsUrl`. */
function serve(file: string, natsUrl: string): ChildProcess {
  const deno = "Bun" in globalThis ? "deno" : process.execPath;
  const args = ["serve", "-A", "--no-check", "--config", join(ROOT, "deno.json"), "--host", "127.0.0.1", "--port", "0"];
  const child = spawn(deno, [...args, join(ROOT, file)], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, NATS_URL: natsUrl, NO_COLOR: "1" },
  });
  const stuck = setTimeout(() => child.kill("SIGKILL"), STUCK_MS);
  child.once("exit", () => clearTimeout(stuck));
  return child;
}

/** Resolves to the address that a worker is served at, once it says so. */
function addressOf(child: ChildProcess): Promise<string> {
  let said = "";
  return new Promise((resolve, reject) => {
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      const address = /Listening on (http:\S+)/.exec(said)?.[1];
      if (address !== undefined) resolve(address);
    });
    child.once("exit", () => reject(new Error(`it ended before it listened: ${said}`)));
  });
}

for (const signal of ["SIGTERM", "SIGINT"] satisfies Signal[]) {
  test(`the worker for Deno Deploy limits, and ends when it gets ${signal}`, LIMIT, async () => {
    await using server = await startServer();
    const child = serve("examples/deno_deploy.ts", server.url);
    const ended = new Promise((resolve) => child.once("exit", (code, killedBy) => resolve([code, killedBy])));
    const address = await addressOf(child);

    assertStringIncludes(await (await fetch(address)).text(), "Requests left at the moment: 9");
    for (let i = 0; i < 9; i++) await (await fetch(address)).body?.cancel();
    const refused = await fetch(address);
    assertStringIncludes(await refused.text(), "Too many requests");
    assertEquals(refused.status, 429);

    // child.kill() would make Deno report the signal and not the exit code
    if (child.pid !== undefined) process.kill(child.pid, signal);
    assertEquals(await ended, [0, null]);
  });
}

test("the worker in README.md ends as the example does", () => {
  const ending = /^const end = .*\nprocess\.on\([^;]*;/m;
  const inExample = ending.exec(readText("examples/deno_deploy.ts"))?.[0];
  assertEquals(inExample === undefined, false, "the example does not end");
  const inReadme = readText("README.md").split("### Deno Deploy")[1]?.split("\n##")[0] ?? "";
  assertEquals(ending.exec(inReadme)?.[0], inExample);
});
