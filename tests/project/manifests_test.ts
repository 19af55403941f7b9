import { assert, assertEquals } from "@std/assert";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { importsOf, readJson, readText, ROOT, sourcesIn } from "../support/project.ts";

const development = readJson("deno.json");
const published = readJson("jsr.json");

test("both manifests have the same name, exports and import names", () => {
  assertEquals(development["name"], published["name"]);
  assertEquals(development["exports"], published["exports"]);
  assertEquals(Object.keys(importsIn(development)).sort(), Object.keys(importsIn(published)).sort());
});

test("deno.json has no version, so it cannot be published by accident, and jsr.json has one", () => {
  assertEquals(development["version"], undefined);
  assert(/^\d+\.\d+\.\d+/.test(String(published["version"])));
});

test("deno.json resolves everything from npm alone, and exactly", () => {
  for (const [name, target] of Object.entries(importsIn(development))) {
    assert(/^npm:(@[^/]+\/)?[^@/]+@\d+\.\d+\.\d+(\/|$)/.test(target), `${name} is ${target}`);
  }
});

test("every bare name that the sources import is in the manifests, and nothing else is", () => {
  const files = [...sourcesIn("src"), ...sourcesIn("tests"), ...sourcesIn("bench"), ...sourcesIn("examples"), "mod.ts"];
  const bare = files.flatMap((file) => importsOf(file).map(({ name }) => name))
    .filter((name) => /^[@a-z]/.test(name) && !/^(node:|bun$|@ratesync\/core)/.test(name));
  assertEquals([...new Set(bare)].sort(), Object.keys(importsIn(published)).sort());
});

test("the changelog and the manifest agree on the version", () => {
  assert(
    readText("CHANGELOG.md").includes(`## ${published["version"]}`),
    "CHANGELOG.md has no section for the version",
  );
});

test("the top level of the repository holds what it should and nothing else", () => {
  const allowed = new Set([
    "mod.ts",
    "src",
    "tests",
    "bench",
    "examples",
    "deno.json",
    "deno.lock",
    "jsr.json",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "node_modules",
  ]);
  assertEquals(readdirSync(ROOT).filter((name) => !name.startsWith(".") && !allowed.has(name)), []);
});

function importsIn(manifest: Record<string, unknown>): Record<string, string> {
  const { imports } = manifest;
  assert(typeof imports === "object" && imports !== null);
  return Object.fromEntries(Object.entries(imports).map(([name, target]) => [name, String(target)]));
}
