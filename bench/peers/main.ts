// Measures everything side by side with its peers: prints a table for each group, and writes the report.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { resolve } from "node:path";
import process from "node:process";
import { startServer } from "../../tests/support/nats_server.ts";
import { ROOT } from "../../tests/support/project.ts";
import { GROUP_NAMES, type GroupName, GROUPS, RUNTIME_NAMES, type Setup } from "./groups.ts";
import type { Runtime } from "./job.ts";
import { bunVersion, machineOf, priority } from "./machine.ts";
import { type BenchOptions, parseOptions, USAGE, WrongOption } from "./options.ts";
import { startReadyCluster } from "./ready_cluster.ts";
import { startRedis } from "./redis_server.ts";
import { tableOf, updateReport } from "./report.ts";
import { type Row, runCase } from "./run_case.ts";

const args = process.argv.slice(2);
try {
  const options = parseOptions(args);
  if (options === "help") process.stdout.write(USAGE);
  else await measure(options);
} catch (error) {
  if (!(error instanceof WrongOption)) throw error;
  process.stderr.write(`${error.message} See --help.\n`);
  process.exitCode = 1;
}

async function measure(options: BenchOptions): Promise<void> {
  const { only, runs, seconds, warmUp } = options;
  const hasBun = bunVersion() !== undefined;
  await using nats = await startServer();
  await using cluster = only.includes("cluster") ? await startReadyCluster() : undefined;
  await using redis = await startRedis();
  if (!hasBun) process.stdout.write("No bun on the PATH: Bun is left out.\n");
  if (!redis) process.stdout.write("No redis-server on the PATH or in $REDIS_SERVER: Redis is left out.\n");
  const setup: Setup = {
    ...options,
    runtimes: options.runtimes.filter((runtime) => runtime !== "bun" || hasBun),
    natsUrl: nats.url,
    clusterUrl: cluster?.url,
    redisPort: redis?.port,
  };

  const servers = [`nats-server ${nats.version}`, redis ? `redis-server ${redis.version}` : "no Redis"];
  const machine = machineOf(servers);
  const path = resolve(ROOT, options.report);
  const titles = sectionsOf(GROUP_NAMES, ["deno", "bun"]).map(({ title }) => title);
  for (const { name, runtime, title } of sectionsOf(only, setup.runtimes)) {
    const { about, cases } = GROUPS[name];
    process.stdout.write(`\n## ${title}\n\n${about}\n\n`);
    const rows: Row[] = [];
    for (const planned of cases({ ...setup, runtimes: [runtime] })) {
      process.stderr.write(`${name}: ${planned.title}\n`);
      rows.push(...await runCase(planned, { runs, seconds, warmUp }));
    }
    const table = tableOf(rows);
    process.stdout.write(`${table}\n`);
    const command = ["deno task bench:peers", ...args].join(" ");
    const when = `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
    const how = `${runs} runs${name === "keys" || name === "footprint" ? "" : ` of ${seconds} s, warmed up`}`;
    const load = `load ${loadavg().map((value) => value.toFixed(1)).join(", ")}`;
    const lines = [[`\`${command}\``, when, how, load, ...priority()].join(", "), ...machine];
    const section = [about, table, lines.map((line) => `- ${line}`).join("\n")].join("\n\n");
    const before = existsSync(path) ? readFileSync(path, "utf8") : "";
    // Written at once: if a later group fails, what was measured is not lost.
    writeFileSync(path, updateReport(before, new Map([[title, section]]), titles));
  }
  execFileSync(process.execPath, ["fmt", "--quiet", path], { cwd: ROOT });
  process.stdout.write(`\nWritten to ${options.report}.\n`);
}

/** A group on one runtime has its own section in the report, and can be measured alone. */
function sectionsOf(groups: readonly GroupName[], runtimes: readonly Runtime[]) {
  return groups.flatMap((name) =>
    runtimes.map((runtime) => ({ name, runtime, title: `${name}, ${RUNTIME_NAMES[runtime]}` }))
  );
}
