import { assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { LIMIT, startServer } from "../support/nats_server.ts";

const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const demo = (...args: string[]) => runDemo(args);

/**
 * Runs the demo as somebody in a shell would, with the runtime that runs this test. Sends it a signal once it has printed
 * `interruptAt`.
 */
function runDemo(args: readonly string[], interruptAt?: RegExp): Promise<Ended> {
  const runtime = "Deno" in globalThis ? ["run", "-A"] : ["--preload", fromHere("../support/bun_preload.ts")];
  const child = spawn(process.execPath, [...runtime, fromHere("../../examples/demo.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let interrupted = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (interrupted || interruptAt?.test(stdout) !== true) return;
    interrupted = true;
    // child.kill() would make Deno report the signal and not the exit code
    if (child.pid !== undefined) process.kill(child.pid, "SIGINT");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** The demo judges what this host has really done, however busy it is: here it counts that it says the same twice. */
function assertVerdict(code: number | null, stdout: string): void {
  const held = /\n {2}✔ The limit [^✔✘]+ and \d+ % of it\s+was\s+used\.\n$/.test(stdout);
  if (!held) {
    assertMatch(stdout, /\n {2}✘ The limit was exceeded: [\d,]+ in one second, where [\d,]+ are\s+allowed\.\n$/);
  }
  assertEquals(code, held ? 0 : 1, stdout);
}

test("the demo shows a run in plain lines, and judges it", LIMIT, async () => {
  const { code, stdout } = await demo("--seconds", "1", "--callers", "20");
  assertVerdict(code, stdout);
  assertMatch(stdout, /^ {2}20 callers, one limit: 100 per second, burst 20\n/);
  assertMatch(stdout, /\n {2}waited {4}p50 .+, p99 .+\n/);
  assertMatch(stdout, /\n {2}refused {3}\d+: \d+ would not wait, \d+ had no slot within 250 ms\n/);
  // deno-lint-ignore no-control-regex -- escape codes are what it looks for
  assertNotMatch(stdout, /\x1b/);
});

test("the demo takes another limit", LIMIT, async () => {
  const { code, stdout } = await demo("--seconds", "0.5", "--callers", "3", "--rate", "40", "--burst", "4");
  assertVerdict(code, stdout);
  assertStringIncludes(stdout, "3 callers, one limit: 40 per second, burst 4");
});

test("the demo explains itself", LIMIT, async () => {
  const { code, stdout } = await demo("--help");
  assertEquals(code, 0);
  for (const option of ["--url", "--processes", "--callers", "--seconds", "--rate", "--burst", "--timeout"]) {
    assertStringIncludes(stdout, option);
  }
});

test("the demo refuses an option that it does not have", LIMIT, async () => {
  assertEquals(await demo("--fast"), { code: 2, stdout: "", stderr: "--fast is not an option. See --help.\n" });
});

test("the demo says what to do when no server answers, and shows no password", LIMIT, async () => {
  const { code, stdout, stderr } = await demo("--url", "nats://somebody:secret@127.0.0.1:1", "--processes", "2");
  assertEquals({ code, stdout }, { code: 1, stdout: "" });
  assertMatch(stderr, /^Store 'nats': .*127\.0\.0\.1:1/);
  assertStringIncludes(stderr, "nats-server -js");
  assertNotMatch(stderr, /secret/);
});

test("several processes of the demo share one limit", LIMIT, async () => {
  await using server = await startServer();
  const { code, stdout } = await demo("--url", server.url, "--processes", "3", "--callers", "10", "--seconds", "1");
  assertVerdict(code, stdout);
  assertMatch(stdout, /^ {2}3 processes with 10 callers each, one limit: 100 per second, burst 20\n/);
  assertMatch(stdout, /\n {2}processes \d+ \+ \d+ \+ \d+\n/);
});

test("the demo ends with its processes when it is interrupted, and shows what was seen", LIMIT, async () => {
  await using server = await startServer();
  const args = ["--url", server.url, "--processes", "2", "--callers", "5", "--seconds", "600"];
  // It resolves when nobody holds its output any more.
  const { code, stdout } = await runDemo(args, /[1-9][\d,]* admitted/);
  assertEquals(code, 130, stdout);
  assertMatch(stdout, /\n {2}[✔✘] Stopped at [^✔✘]+\n$/);
});
