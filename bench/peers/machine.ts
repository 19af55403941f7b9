import { execFileSync } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import process from "node:process";
import { readJson } from "../../tests/support/project.ts";

const PEERS = ["rate-limiter-flexible", "ioredis", "limiter", "bottleneck", "@nats-io/nats-core"];

/** What the numbers were measured on, a line for each thing. */
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

/** Undefined where there is no Bun. */
export function bunVersion(): string | undefined {
  try {
    return `Bun ${execFileSync("bun", ["--version"], { encoding: "utf8" }).trim()}`;
  } catch {
    return undefined;
  }
}
