import { assert, assertEquals } from "@std/assert";
import { dirname, join } from "node:path/posix";
import { test } from "node:test";
import { importsOf, loadedBy, readJson, readText, sourcesIn } from "../support/project.ts";

/** Rooms and what each may import from: arrows go one way. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  core: ["core"],
  adapters: ["adapters", "core"],
  // The options of an adapter stand beside the adapter: types alone.
  config: ["config", "adapters", "core"],
  // The options in code are the configuration's: types alone.
  standalone: ["standalone", "adapters", "config", "core"],
  registry: ["registry", "adapters", "config", "core"],
  rate_limited: ["rate_limited", "registry", "core"],
  composite: ["registry", "core"],
  identifiers: ["core"],
  testing: ["testing", "registry", "adapters", "core"],
  entries: ["entries", "standalone", "adapters", "config", "core"],
};

/** The rooms of the core, from the bottom to the top. The lowest is what stands in `src/core` itself. */
const ROOMS_OF_CORE = ["", "rules", "decision", "store", "hand_over", "waiting", "cell", "limiter"];

function roomOf(path: string): string {
  return path.replace(/^src\//, "").split("/")[0]!.replace(/\.ts$/, "");
}

function roomOfCore(path: string): string {
  const [first = "", ...rest] = path.replace(/^src\/core\//, "").split("/");
  return rest.length === 0 ? "" : first;
}

test("every source file is in a room, and imports only from the rooms that come after it", () => {
  const wrong: string[] = [];
  for (const file of sourcesIn("src")) {
    const allowed = ROOMS[roomOf(file)];
    assert(allowed, `${file} is in no room that this test knows`);
    for (const { name } of importsOf(file)) {
      if (!name.startsWith(".")) continue;
      const target = join(dirname(file), name);
      if (!allowed.includes(roomOf(target))) wrong.push(`${file} imports ${target}`);
    }
  }
  assertEquals(wrong, []);
});

test("every folder of the core is a room, and a room imports only from itself and from those below it, types too", () => {
  const files = sourcesIn("src/core");
  assertEquals([...new Set(files.map(roomOfCore))].sort(), ROOMS_OF_CORE.toSorted());
  const height = (file: string) => ROOMS_OF_CORE.indexOf(roomOfCore(file));
  const upwards = files.flatMap((file) =>
    importsOf(file).map(({ name }) => join(dirname(file), name)).filter((target) => height(target) > height(file)).map(
      (target) => `${file} imports ${target}`,
    )
  );
  assertEquals(upwards, []);
});

test("no module depends on itself through others, types too, so the modules of a room have an order as well", () => {
  const left = new Map(
    sourcesIn("src").map((file) => {
      return [file, importsOf(file).map(({ name }) => join(dirname(file), name))] as const;
    }),
  );
  // Whatever needs nothing that is left goes, until nothing can: what stays goes round in a circle, or leads there.
  for (let before = Infinity; left.size < before;) {
    before = left.size;
    for (const [file, needed] of left) if (!needed.some((name) => left.has(name))) left.delete(file);
  }
  assertEquals([...left.keys()], []);
});

test("the core imports nothing from outside itself", () => {
  const outside = sourcesIn("src/core").flatMap((file) =>
    importsOf(file).filter(({ name }) => !name.startsWith(".")).map(({ name }) => `${file} imports ${name}`)
  );
  assertEquals(outside, []);
});

test("the configuration loads no adapter: it knows their options by type alone", () => {
  const loaded = sourcesIn("src/config").flatMap((file) =>
    importsOf(file).filter(({ name, typeOnly }) => name.includes("/adapters/") && !typeOnly).map(({ name }) =>
      `${file} loads ${name}`
    )
  );
  assertEquals(loaded, []);
});

test("the entry ./core loads the algorithm: no store, no clock, no loop", () => {
  assertEquals(loadedBy("src/entries/core.ts").filter((file) => !file.startsWith("src/core/rules/")), [
    "src/config/ids.ts",
    "src/core/arguments.ts",
    "src/core/decision/decide.ts",
    "src/core/decision/others.ts",
    "src/core/decision/state.ts",
    "src/core/decision/stored.ts",
    "src/core/errors.ts",
    "src/core/limiter/defaults.ts",
    "src/entries/core.ts",
    "src/standalone/limit_checks.ts",
    "src/standalone/pure_limiter.ts",
  ]);
});

/** What an entry loads that another does not. */
function addedBy(entry: string, base: string): string[] {
  const known = new Set(loadedBy(base));
  return loadedBy(entry).filter((file) => !known.has(file));
}

test("the entry ./limiter loads the core and what a limiter needs of its host, and nothing else", () => {
  assertEquals(
    addedBy("src/entries/limiter.ts", "src/entries/core.ts").filter((file) => !file.startsWith("src/core/")),
    [
      "src/adapters/console_logger.ts",
      "src/adapters/host.ts",
      "src/config/names.ts",
      "src/entries/limiter.ts",
      "src/standalone/limiter.ts",
    ],
  );
});

test("the entry ./memory loads no more than ./limiter and the adapter for memory", () => {
  assertEquals(addedBy("src/entries/memory.ts", "src/entries/limiter.ts"), [
    "src/adapters/memory.ts",
    "src/adapters/system_clock.ts",
    "src/entries/memory.ts",
  ]);
});

test("no entry imports a NATS client, and ./core, ./limiter, ./memory and ./nats nothing from outside the package", () => {
  const { exports } = readJson("deno.json");
  const packages = Object.entries<string>(Object(exports)).map(([entry, file]) => {
    return [entry, loadedBy(file.slice(2)).filter((name) => !name.endsWith(".ts"))] as const;
  });
  assertEquals(packages.filter(([, names]) => names.some((name) => name.startsWith("@nats-io/"))), []);
  const alone = packages.filter(([entry]) => ["./core", "./limiter", "./memory", "./nats"].includes(entry));
  assertEquals(alone, [["./core", []], ["./limiter", []], ["./memory", []], ["./nats", []]]);
});

test("entries are named by what they export, and only re-export", () => {
  const { exports } = readJson("deno.json");
  for (const file of sourcesIn("src/entries")) {
    const entry = file.replace("src/entries/", "./").replace(".ts", "");
    assertEquals(Object.entries({ ...Object(exports) }).find(([name]) => name === entry)?.[1], `./${file}`);
    assertEquals(codeOf(file).replace(/export (type )?(\*|\{[^}]*\}) from "[^"]+";/g, "").trim(), "");
  }
});

test("only the NATS adapter imports @nats-io", () => {
  const importers = sourcesIn("src").filter((file) => importsOf(file).some(({ name }) => name.startsWith("@nats-io/")));
  assert(importers.length > 0, "the NATS adapter imports @nats-io, so this test sees nothing");
  assertEquals(importers.filter((file) => !file.startsWith("src/adapters/nats/")), []);
});

test("the core uses no global that tells the time, starts a timer, draws a random number or does I/O", () => {
  const impure =
    /\b(Date|performance|crypto|console|process|Deno|Bun|setTimeout|setInterval|fetch|Math\.random)(?:\(|\.\w)/g;
  const found: string[] = [];
  for (const file of sourcesIn("src/core")) {
    for (const [, global] of codeOf(file).matchAll(impure)) found.push(`${file} uses ${global}`);
  }
  assertEquals(found, []);
});

function codeOf(file: string): string {
  return readText(file).replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/.*$/gm, "");
}
