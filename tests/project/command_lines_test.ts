import { assertEquals } from "@std/assert";
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { GROUP_NAMES } from "../../bench/peers/groups.ts";
import { LIMIT, natsServers } from "../support/nats_server.ts";
import { ROOT } from "../support/project.ts";

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the repository as somebody in a shell would, with the runtime that runs this test. */
function run(file: string, ...args: string[]): Promise<Ended> {
  const runtime = "Bun" in globalThis
    ? ["--preload", join(ROOT, "tests/support/bun_preload.ts")]
    : ["run", "-A", "--no-check", "--config", join(ROOT, "deno.json")];
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [...runtime, join(ROOT, file), ...args], (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
  });
}

test(
  "the comparison with peers refuses a group that it does not have in one line, with those that it has",
  LIMIT,
  async () => {
    assertEquals(await run("bench/peers/main.ts", "--only", "nope"), {
      code: 1,
      stdout: "",
      stderr: `--only knows no 'nope', only ${GROUP_NAMES.join(", ")}. See --help.\n`,
    });
    const { code, stderr } = await run("bench/peers/main.ts", "--onli", "hot");
    assertEquals([code, stderr.trim().split("\n").length], [1, 1], stderr);
  },
);

test("the chaos tests refuse a server that is not there before they begin, with those that are", LIMIT, async () => {
  const versions = (await natsServers()).map(({ version }) => version);
  assertEquals(await run("tests/chaos/main.ts", "--server", "1.2.3"), {
    code: 2,
    stdout: "",
    stderr: `There is no nats-server 1.2.3 here, only ${versions.join(", ")}. See --help.\n`,
  });
});
