import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { test } from "node:test";
import { outputOf, startChild } from "../support/child.ts";
import { ROOT } from "../support/project.ts";

const PROGRAM = "tests/support/bare_process.ts";
const isDeno = "Deno" in globalThis;

/** What a program prints on Deno with no other permission than `allowed`: files exist there, and may not be read. */
async function outputWithoutPermissions(file: string, ...allowed: readonly string[]): Promise<string> {
  // Not with node:child_process: it hands its own permissions on to a Deno that it starts.
  const args = ["run", "--no-prompt", "--no-check", ...allowed, "--config", join(ROOT, "deno.json"), join(ROOT, file)];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, stderr: "inherit" }).output();
  return new TextDecoder().decode(stdout);
}

const RUNTIMES = [
  { name: "a runtime that has neither files nor an environment", output: () => outputOf(startChild(PROGRAM)) },
  ...isDeno ? [{ name: "such a runtime without permissions", output: () => outputWithoutPermissions(PROGRAM) }] : [],
];

for (const { name, output } of RUNTIMES) {
  test(`in ${name} everything but reading files works, and that says so`, async () => {
    const { found, read, unconfigured, ...rest } = JSON.parse(await output());
    assertEquals(rest, {
      globals: [],
      granted: 1_004,
      alone: true,
      parsed: { engine: "memory" },
      environment: "none",
    });
    assertStringIncludes(unconfigured, "Limiter 'api' not found");
    for (const message of [found, read]) {
      assertStringIncludes(message, "This runtime has no files");
      assertStringIncludes(message, "parseConfiguration() of @ratesync/core/config");
    }
  });
}

if (isDeno) {
  test("without permissions loadConfig() says which one it needs, and limits in code need none", async () => {
    const output = await outputWithoutPermissions("tests/support/forbidden_process.ts");
    const { granted, found, read } = JSON.parse(output);
    assertEquals(granted, true);
    assertStringIncludes(found, "allow it with --allow-env=RATE_SYNC_CONFIG");
    assertStringIncludes(read, "Allow it with --allow-read=some.toml");
    const withVariables = JSON.parse(
      await outputWithoutPermissions("tests/support/forbidden_process.ts", "--allow-env"),
    );
    assertStringIncludes(withVariables.found, "allow it with --allow-read=./rate-sync.toml");
  });
}
