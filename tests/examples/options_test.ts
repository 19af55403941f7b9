import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { type CommandLine, type DemoOptions, parseCommandLine } from "../../examples/demo/options.ts";

const DEFAULTS: DemoOptions = {
  url: undefined,
  processes: 1,
  callers: 50,
  seconds: 5,
  rate: undefined,
  burst: undefined,
  timeout: 0.25,
};

const run = (options: Partial<DemoOptions>): CommandLine => ({ kind: "run", options: { ...DEFAULTS, ...options } });

test("parseCommandLine() has a default for everything", () => {
  assertEquals(parseCommandLine([]), run({}));
});

test("parseCommandLine() starts four processes when there is a server that they can share", () => {
  assertEquals(parseCommandLine(["--url", "nats://a"]), run({ url: "nats://a", processes: 4 }));
  assertEquals(parseCommandLine(["--url=nats://a", "--processes=2"]), run({ url: "nats://a", processes: 2 }));
});

test("parseCommandLine() reads every number", () => {
  assertEquals(
    parseCommandLine(["--callers", "7", "--seconds", "1.5", "--rate", "0.5", "--burst", "3", "--timeout", "0"]),
    run({ callers: 7, seconds: 1.5, rate: 0.5, burst: 3, timeout: 0 }),
  );
});

test("parseCommandLine() knows --help and -h", () => {
  assertEquals(parseCommandLine(["--help"]), { kind: "help" });
  assertEquals(parseCommandLine(["-h"]), { kind: "help" });
});

const WRONG: [args: string[], message: string][] = [
  [["--bogus"], "--bogus is not an option."],
  [["--bogus=1"], "--bogus is not an option."],
  [["-x"], "-x is not an option."],
  [["extra"], "'extra' is not an option."],
  [["--url"], "--url needs a value."],
  [["--url="], "--url needs a value."],
  [["--callers", "0"], "--callers must be a whole number from 1 to 10000, got '0'."],
  [["--callers", "1.5"], "--callers must be a whole number from 1 to 10000, got '1.5'."],
  [["--seconds", "soon"], "--seconds must be a number from 0.5 to 3600, got 'soon'."],
  [["--rate=-1"], "--rate must be a number from 0.1 to 100000, got '-1'."],
  [["--burst", "0x10"], "--burst must be a number from 1 to 100000, got '0x10'."],
  [["--processes", "2"], "--processes needs --url: what is kept in memory belongs to one process."],
];

for (const [args, message] of WRONG) {
  test(`parseCommandLine() refuses ${args.join(" ")}`, () => {
    assertEquals(parseCommandLine(args), { kind: "invalid", message });
  });
}
