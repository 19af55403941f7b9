// Where the hot path spends its time: runs it under V8's profiler, and prints the functions with the most time of their
// own.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { startServer } from "../tests/support/nats_server.ts";
import { ROOT } from "../tests/support/project.ts";
import { startFleet } from "./peers/fleet.ts";
import type { ContestantName, Job } from "./peers/job.ts";

const USAGE = `deno task profile [options]

  --store nats    or memory
  --refused       refusals that are certain, instead of grants (nats)
  --callers 25    at the same time
  --keys 1        in turn
  --seconds 3
  --top 30        functions
  --keep FOLDER   where the profile stays, for a browser's developer tools
`;

/** Time in which nothing ran does not belong to any function. */
const IDLE = new Set(["(idle)", "(root)", "(program)"]);

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    store: { type: "string", default: "nats" },
    refused: { type: "boolean", default: false },
    callers: { type: "string", default: "25" },
    keys: { type: "string", default: "1" },
    seconds: { type: "string", default: "3" },
    top: { type: "string", default: "30" },
    keep: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) process.stdout.write(USAGE);
else await profile();

async function profile(): Promise<void> {
  const folder = values.keep ?? mkdtempSync(join(tmpdir(), "ratesync-profile-"));
  try {
    await using server = values.store === "nats" ? await startServer() : undefined;
    const name: ContestantName = server ? (values.refused ? "nats.refused" : "nats.acquire") : "memory.tryAcquire";
    const job: Job = {
      contestants: [name],
      callers: Number(values.callers),
      keys: Number(values.keys),
      timed: server !== undefined && !values.refused,
      ...server && { natsUrl: server.url, bucket: "profile" },
    };
    const fleet = await startFleet("deno", 1, job, ["--cpu-prof", `--cpu-prof-dir=${folder}`]);
    const [outcomes] = await fleet.run({ kind: "time", seconds: Number(values.seconds) });
    await fleet.close();
    const perSecond = Math.round(outcomes?.[0]?.perSecond ?? 0).toLocaleString("en");
    process.stdout.write(`${name}: ${perSecond} calls/s while being profiled\n\n`);
    const file = readdirSync(folder).filter((found) => found.endsWith(".cpuprofile")).sort().at(-1);
    if (file === undefined) throw new Error(`the profiler wrote nothing into ${folder}`);
    print(JSON.parse(readFileSync(join(folder, file), "utf8")));
  } finally {
    if (values.keep === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

function print({ nodes, samples, timeDeltas }: Profile): void {
  const names = new Map(nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => {
    const file = url.replace(`file://${ROOT}`, "").replace(/^.*node_modules\/(\.deno\/[^/]*\/node_modules\/)?/, "");
    return [id, { name: functionName || "(anonymous)", at: file && `${file}:${lineNumber + 1}` }];
  }));
  const self = new Map<string, number>();
  let total = 0;
  samples.forEach((id, i) => {
    const found = names.get(id);
    if (found === undefined || IDLE.has(found.name)) return;
    const text = `${found.name}  ${found.at}`;
    const took = timeDeltas[i] ?? 0;
    self.set(text, (self.get(text) ?? 0) + took);
    total += took;
  });
  const top = [...self].sort(([, a], [, b]) => b - a).slice(0, Number(values.top));
  for (const [text, took] of top) process.stdout.write(`${(100 * took / total).toFixed(1).padStart(5)} %  ${text}\n`);
}
