import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { ROOT } from "./project.ts";

/** Starts a TypeScript file of the repository in a separate process, on the runtime that runs the test. */
export function startChild(file: string, ...args: string[]): ChildProcess {
  const runtime = "Bun" in globalThis
    ? ["--preload", join(ROOT, "tests/support/bun_preload.ts")]
    : ["run", "-A", "--no-check", "--config", join(ROOT, "deno.json")];
  return spawn(process.execPath, [...runtime, join(ROOT, file), ...args], {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "inherit"],
  });
}

/**
 * Does the same in Node, which has to be on the PATH. The file is bundled into one, because Node reads no TypeScript
 * and no import map.
 */
export function startInNode(file: string, ...args: string[]): ChildProcess {
  const folder = mkdtempSync(join(tmpdir(), "ratesync-node-"));
  const bundle = join(folder, "bundle.mjs");
  const deno = "Bun" in globalThis ? "deno" : process.execPath;
  const options = ["bundle", "--quiet", "--platform=deno", "--config", join(ROOT, "deno.json"), "--output", bundle];
  execFileSync(deno, [...options, join(ROOT, file)]);
  const child = spawn("node", [bundle, ...args], { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] });
  child.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return child;
}

/** What a process prints until it ends. */
export async function outputOf(child: ChildProcess): Promise<string> {
  let output = "";
  child.stdout?.on("data", (data) => output += data);
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`the process ended with ${code} after printing: ${output}`);
  return output;
}

/** Resolves when the process has printed a line. */
export function lineOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (data) => resolve(String(data).trim()));
    child.once("exit", (code) => reject(new Error(`it ended with ${code} before it said anything`)));
  });
}

/** Waits until none of the threads of a stopped process runs, because it goes on for a moment. Only Linux can tell. */
export async function stopped(pid: number): Promise<void> {
  for (let left = 10_000; left > 0; left--) {
    try {
      const tasks = readdirSync(`/proc/${pid}/task`);
      const states = tasks.map((task) => /\) (\S)/.exec(readFileSync(`/proc/${pid}/task/${task}/stat`, "utf8"))?.[1]);
      if (states.every((state) => state === "T")) return;
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`process ${pid} was told to stop, and goes on`);
}
