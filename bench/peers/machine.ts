import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cpus, getPriority, release, totalmem } from "node:os";
import process from "node:process";
import { readJson } from "../../tests/support/project.ts";

/** The index of the field, counted from the one after the name of the program. */
const POLICY_FIELD = 38;
const PEERS = ["rate-limiter-flexible", "ioredis", "limiter", "bottleneck", "@nats-io/nats-core"];

/** What the numbers were measured on, one line for each thing. */
export function machineOf(servers: readonly string[]): string[] {
  const { imports } = readJson("deno.json");
  const versions = Object.entries<string>(Object(imports)).filter(([name]) => PEERS.includes(name));
  const all = cpus();
  return [
    `${all[0]?.model ?? "unknown processor"}, ${all.length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ` +
    `${process.platform} ${release()}`,
    [`Deno ${process.versions["deno"]}`, bunVersion(), ...servers].filter((text) => text !== undefined).join(", "),
    versions.map(([, target]) => target.replace(/^npm:/, "").replace(/@([^@]*)$/, " $1")).join(", "),
  ];
}

/** Undefined if there is no Bun. */
export function bunVersion(): string | undefined {
  try {
    return `Bun ${execFileSync("bun", ["--version"], { encoding: "utf8" }).trim()}`;
  } catch {
    return undefined;
  }
}

/**
 * How this process, and with it everything that it starts, takes precedence over the others on the machine, if it does.
 */
export function priority(): string[] {
  // proc_pid_stat(5); only Linux tells
  const stat = existsSync("/proc/self/stat") ? readFileSync("/proc/self/stat", "utf8") : "";
  const policy = stat.replace(/^.*\) /, "").split(" ")[POLICY_FIELD];
  if (policy === "1" || policy === "2") return ["real-time priority"];
  const nice = getPriority();
  return nice === 0 ? [] : [`nice ${nice}`];
}
