import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { findConfigurationFile, processEnvironment, readConfiguration } from "../../src/config/files.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { inDirectory } from "../support/directory.ts";
import { logBook } from "../support/log_book.ts";

const unset = () => undefined;
const valid = "[stores.local]\nengine = 'memory'\n[limiters.api]\nstore = 'local'\nrate_per_second = 1\n";

test("findConfigurationFile() takes RATE_SYNC_CONFIG, then ./rate-sync.toml, then ./config/rate-sync.toml [CFG-1]", async () => {
  await inDirectory({ "named.toml": "", "rate-sync.toml": "", "config/rate-sync.toml": "" }, async (directory) => {
    const logger = logBook();
    const { lines } = logger;
    const named = join(directory, "named.toml");
    assertEquals(findConfigurationFile({ logger, environment: () => named }), named);
    assertEquals(findConfigurationFile({ logger, environment: unset }), "./rate-sync.toml");
    assertEquals(findConfigurationFile({ logger, environment: () => "" }), "./rate-sync.toml");
    await rm("rate-sync.toml");
    assertEquals(findConfigurationFile({ logger, environment: unset }), "./config/rate-sync.toml");
    assertEquals(lines, []);
  });
});

test("findConfigurationFile() asks for no other variable than RATE_SYNC_CONFIG [CFG-1]", async () => {
  await inDirectory({}, () => {
    const asked: string[] = [];
    findConfigurationFile({ logger: logBook(), environment: (name) => void asked.push(name) });
    assertEquals(asked, ["RATE_SYNC_CONFIG"]);
  });
});

test("findConfigurationFile() warns about a missing RATE_SYNC_CONFIG and goes on [CFG-2]", async () => {
  await inDirectory({ "rate-sync.toml": "" }, () => {
    const logger = logBook();
    const { lines } = logger;
    assertEquals(findConfigurationFile({ logger, environment: () => "missing.toml" }), "./rate-sync.toml");
    assertEquals(lines.length, 1);
    assertStringIncludes(lines[0] ?? "", "warn: RATE_SYNC_CONFIG names 'missing.toml'");
  });
});

test("findConfigurationFile() takes no other file in silence, and none, when RATE_SYNC_CONFIG may not be read [CFG-1, CFG-2]", async () => {
  await inDirectory({ "rate-sync.toml": "" }, async () => {
    const logger = logBook();
    const { lines } = logger;
    const environment = (name: string): string | undefined => {
      throw new ConfigValidationError(`${name} cannot be read.`, {
        field: name,
        expected: "a variable",
        received: "none",
      });
    };
    assertEquals(findConfigurationFile({ logger, environment }), "./rate-sync.toml");
    assert(lines.some((line) => /^warn: .*RATE_SYNC_CONFIG cannot be read\. Without it/.test(line)), lines.join());
    assertThrows(() => findConfigurationFile({ logger, environment, mustLook: true }), ConfigValidationError, "read");
    await rm("rate-sync.toml");
    assertEquals(findConfigurationFile({ logger, environment }), undefined);
    assertStringIncludes(lines.at(-1) ?? "", "Without it, no configuration file was found.");
  });
});

test("findConfigurationFile() finds nothing without an error [CFG-4]", async () => {
  await inDirectory({}, () => {
    const logger = logBook();
    const { lines } = logger;
    assertEquals(findConfigurationFile({ logger, environment: unset }), undefined);
    assertEquals(lines, []);
  });
});

test("findConfigurationFile() goes on when the environment may not be read [CFG-4]", async () => {
  await inDirectory({ "rate-sync.toml": "" }, () => {
    const forbidden = () => {
      throw new Error("no permission");
    };
    assertEquals(
      findConfigurationFile({ logger: logBook(), environment: forbidden }),
      "./rate-sync.toml",
    );
  });
});

test("readConfiguration() reads a file, with the variables of the process by default [CFG-3]", async () => {
  await inDirectory({ "rate-sync.toml": valid.replace("= 1", '= "${RATESYNC_TEST_RATE}"') }, () => {
    process.env["RATESYNC_TEST_RATE"] = "5";
    try {
      const { limiters } = readConfiguration("rate-sync.toml");
      assertEquals(limiters.get("api"), { store: "local", ratePerSecond: 5 });
    } finally {
      delete process.env["RATESYNC_TEST_RATE"];
    }
  });
});

test("readConfiguration() accepts a limiter on a store that is known already [CFG-11]", async () => {
  await inDirectory({ "a.toml": "[limiters.api]\nstore = 'nats'\nrate_per_second = 1" }, () => {
    const { limiters } = readConfiguration("a.toml", { environment: unset, knownStores: ["nats"] });
    assertEquals(limiters.size, 1);
  });
});

test("readConfiguration() names the path in every error about the content [CFG-3, CFG-5]", async () => {
  await inDirectory({ "bad.toml": "a = ", "wrong.toml": "[stores.a]" }, () => {
    const bad = assertThrows(
      () => readConfiguration("bad.toml"),
      ConfigValidationError,
      "Failed to parse TOML file",
    );
    assertEquals([bad.field, bad.received, bad.file], ["config_file", "bad.toml", "bad.toml"]);
    const wrong = assertThrows(() => readConfiguration("wrong.toml"), ConfigValidationError, "wrong.toml: ");
    assertEquals(wrong.file, "wrong.toml");
  });
});

test("readConfiguration() says that a file was not found, and what to do [CFG-5]", async () => {
  await inDirectory({}, () => {
    const error = assertThrows(() => readConfiguration("no/such.toml"), ConfigValidationError);
    assertStringIncludes(error.message, "Configuration file not found: no/such.toml");
    assertStringIncludes(error.message, "Create it, or correct the path.");
    assertEquals([error.field, error.received], ["config_file", "no/such.toml"]);
  });
});

test("readConfiguration() refuses a directory, text that is not UTF-8, and no path", async () => {
  await inDirectory({ "sub/x.toml": "" }, async () => {
    assertThrows(() => readConfiguration("sub"), ConfigValidationError, "sub is a directory");
    await writeFile("latin1.toml", new Uint8Array([0x61, 0x20, 0x3d, 0x20, 0x27, 0xe9, 0x27]));
    assertThrows(() => readConfiguration("latin1.toml"), ConfigValidationError, "it is not UTF-8");
    await writeFile("bom.toml", new Uint8Array([0xef, 0xbb, 0xbf, 0x0a]));
    assertEquals((readConfiguration("bom.toml")).stores.size, 0);
    assertThrows(() => readConfiguration(""), ConfigValidationError, "path");
    // Untyped code can pass anything.
    assertThrows(() => readConfiguration(undefined as unknown as string), ConfigValidationError, "path");
  });
});

test("processEnvironment() knows variables and not what objects inherit", () => {
  process.env["RATESYNC_TEST_VARIABLE"] = "x";
  try {
    assertEquals(processEnvironment("RATESYNC_TEST_VARIABLE"), "x");
  } finally {
    delete process.env["RATESYNC_TEST_VARIABLE"];
  }
  for (const name of ["RATESYNC_TEST_VARIABLE", "toString", "__proto__", "constructor"]) {
    assertEquals(processEnvironment(name), undefined);
  }
});
