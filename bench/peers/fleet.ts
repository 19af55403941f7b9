import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { ROOT } from "../../tests/support/project.ts";
import type { Job, Order, Outcome, Runtime } from "./job.ts";

/** Processes with the same job, started and ready. */
export interface Fleet {
  /** One run of all processes, started together. For each contestant of the job, what each process did. */
  run(order: Order): Promise<Outcome[][]>;
  /** Lets the processes end, and waits for that. */
  close(): Promise<void>;
}

const COMMANDS: Readonly<Record<Runtime, readonly [string, ...string[]]>> = {
  deno: [process.execPath, "run", "-A", "--no-check", "--config", join(ROOT, "deno.json")],
  bun: ["bun", "--preload", join(ROOT, "tests/support/bun_preload.ts")],
};

/** Starts `processes` processes, and waits until all are ready. */
export async function startFleet(
  runtime: Runtime,
  processes: number,
  job: Job,
  denoOptions: readonly string[] = [],
): Promise<Fleet> {
  const [command, ...options] = COMMANDS[runtime];
  const members = Array.from({ length: processes }, () => {
    const child = spawn(
      command,
      [
        ...options,
        ...(runtime === "deno" ? denoOptions : []),
        join(ROOT, "bench/peers/worker.ts"),
        JSON.stringify(job),
      ],
      { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] },
    );
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
    const next = async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error(`a process that measures ${job.contestants.join(" and ")} on ${runtime} has ended`);
      return String(value);
    };
    return { child, next, ended };
  });
  const close = async () => {
    for (const { child } of members) child.stdin.end();
    await Promise.all(members.map(({ ended }) => ended));
  };
  try {
    await Promise.all(members.map(({ next }) => next()));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async run(order) {
      for (const { child } of members) child.stdin.write(`${JSON.stringify(order)}\n`);
      const outcomes = await Promise.all(members.map(async ({ next }): Promise<Outcome[]> => JSON.parse(await next())));
      return job.contestants.map((_, i) => outcomes.map((of) => of[i]!));
    },
    close,
  };
}
