import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import { check } from "../support/checker.ts";
import { LIMIT } from "../support/nats_server.ts";
import { FAULTS } from "./faults.ts";
import { play, type Played } from "./play.ts";
import { LATE_MS, startWorld, until } from "./world.ts";

// The short form: everything goes wrong once. `deno task test:chaos` is the long one.

async function everyFault(where: "server" | "cluster"): Promise<Played> {
  const played = await play({ where }, FAULTS.filter((fault) => fault.where === where));
  const { acquires, longestGapMs, otherAnswers } = played.verdict;
  const others = Object.entries(otherAnswers).map(([kind, count]) => `${count} ${kind}`).join(", ");
  process.stderr.write(
    `${where}: ${played.faults} faults, ${acquires} acquires, ${others}, longest gap ${longestGapMs.toFixed(0)} ms\n`,
  );
  return played;
}

/** Most of the time they wait for something, so they wait together. */
const playing = new Map<string, Promise<Played>>();

function played(where: "server" | "cluster"): Promise<Played> {
  for (const each of ["server", "cluster"] as const) {
    if (playing.has(each)) continue;
    const one = everyFault(each);
    one.catch(() => {}); // its own test awaits it
    playing.set(each, one);
  }
  return playing.get(where)!; // it is one of the two
}

test(
  "limits hold and everybody is served again whatever happens to server, network and processes [FAIL-3]",
  LIMIT,
  async () => {
    const { verdict, faults } = await played("server");
    assertEquals(verdict.problems, []);
    assertGreaterOrEqual(faults, 10);
  },
);

test(
  "limits hold and everybody is served again whatever happens to the leader of a cluster [FAIL-3]",
  LIMIT,
  async () => {
    const { verdict, faults } = await played("cluster");
    assertEquals(verdict.problems, []);
    assertEquals(faults, 3);
  },
);

test("processes that share nothing exceed every limit, and the checker sees it", LIMIT, async () => {
  await using world = await startWorld({ where: "server", apart: true });
  const unseen = () => {
    const { problems } = check(world.run(), LATE_MS);
    const wanted = ["rate: cost", "window: cost", "permits: ", "all: cost"];
    return wanted.filter((limiter) => !problems.some((problem) => problem.startsWith(limiter)));
  };
  await until(() => `the checker sees ${unseen().join(", ")}`, () => unseen().length === 0, 500);
});
