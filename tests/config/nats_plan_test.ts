import { assert, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import type { NatsStoreOptions } from "../../src/adapters/nats/options.ts";
import { connectionPlan } from "../../src/config/nats_plan.ts";
import type { NatsStoreContext } from "../../src/adapters/nats/store.ts";
import { parseConfiguration } from "../../src/config/load.ts";
import { ConfigValidationError, InvalidArgumentError } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { natsStore } from "../../src/standalone/nats_store.ts";
import { createRateSync } from "../../src/registry/registry.ts";

const url = "nats://localhost:4222";

test("connectionPlan() takes the one way to authenticate that is given [NATS-3]", () => {
  const logins: [NatsStoreOptions, unknown][] = [
    [{ url }, { kind: "none" }],
    [{ url, token: "t" }, { kind: "token", token: "t" }],
    [{ url: "nats://t@h" }, { kind: "token", token: "t" }],
    [{ url, user: "u", password: "p" }, { kind: "user", user: "u", password: "p" }],
    [{ url: "nats://u:p@h" }, { kind: "user", user: "u", password: "p" }],
    [{ url, credentialsFile: "a.creds" }, { kind: "credentials", file: "a.creds" }],
    [{ url, nkeySeedFile: "a.nk" }, { kind: "nkey", file: "a.nk" }],
  ];
  for (const [options, login] of logins) assertEquals(connectionPlan(options)?.login, login);
});

test("connectionPlan() requires TLS where the URL or a TLS option asks for it [NATS-3]", () => {
  assertEquals(connectionPlan({ url })?.tls, false);
  assertEquals(connectionPlan({ url: "tls://h" })?.tls, true);
  assertEquals(connectionPlan({ url, tlsCaFile: "ca.pem" })?.tls, true);
});

/** Most of these do not compile; untyped code may give them. */
const bad: [string, object, string][] = [
  ["neither url nor connection", {}, "url"],
  ["credentials in the URL and a token", { url: "nats://u:s3cret@h", token: "s3cret" }, "token"],
  ["a token in the URL and another one", { url: "nats://s3cret@h", token: "s3cret" }, "token"],
  ["a token and a user", { url, token: "s3cret", user: "u", password: "s3cret" }, "user"],
  ["a user and a credentials file", { url, user: "u", password: "s3cret", credentialsFile: "f" }, "credentialsFile"],
  ["credentials in the URL and an NKey", { url: "nats://s3cret@h", nkeySeedFile: "f" }, "nkeySeedFile"],
  ["a user without a password", { url, user: "u" }, "password"],
  ["a password without a user", { url, password: "s3cret" }, "user"],
  ["a client certificate without its key", { url, tlsCertFile: "c" }, "tlsKeyFile"],
  ["a client key without its certificate", { url, tlsKeyFile: "k" }, "tlsCertFile"],
  ["a certificate authority for WebSockets", { url: "wss://h", tlsCaFile: "c" }, "tlsCaFile"],
  ["a URL of something else", { url: "http://h" }, "url"],
  ["a port that is none", { url: "nats://h:42222222" }, "url"],
  ["servers of two kinds", { url: "nats://a,ws://b" }, "url"],
  ["a bucket that lives for a moment", { url, bucketTtlMs: 50 }, "bucketTtlMs"],
  ["no number of milliseconds", { url, bucketTtlMs: NaN }, "bucketTtlMs"],
  ["more replicas than there can be", { url, replicas: 6 }, "replicas"],
  ["no time for the store", { url, backendTimeoutMs: 0 }, "backendTimeoutMs"],
  ["a timeout that no timer can wait for", { url, backendTimeoutMs: 2 ** 31 }, "backendTimeoutMs"],
  ["an option that is misspelt", { url, autoCreat: true }, "autoCreat"],
  ["a clock that is none", { url, clock: "utc" }, "clock"],
];

for (const [what, options, field] of bad) {
  test(`natsStore() and configureStore() refuse ${what}, in the same words [STO-1, STO-5]`, () => {
    const given = options as NatsStoreOptions;
    const error = assertThrows(() => natsStore(given, { id: "main", logger: silentLogger }), ConfigValidationError);
    assert(error instanceof ConfigValidationError);
    assertEquals(error.field, `stores.main.${field}`);
    assert(!error.message.includes("s3cret"));
    const other = assertThrows(
      () => createRateSync().configureStore("main", { engine: "nats", ...given }),
      ConfigValidationError,
    );
    assertEquals(String(other), String(error));
  });
}

test("natsStore() needs an id, a logger, and a clock that is one", () => {
  const withContext = (context: unknown) => () => natsStore({ url }, context as NatsStoreContext); // wrong on purpose
  assertThrows(withContext(undefined), InvalidArgumentError, "object");
  assertThrows(withContext({ id: "main" }), InvalidArgumentError, "logger");
  assertThrows(withContext({ logger: silentLogger }), ConfigValidationError, "id");
  assertThrows(withContext({ id: "main", logger: silentLogger, clock: 5 }), InvalidArgumentError, "clock");
});

test("what is wrong with a URL in a file is said before it is used, with the file and as it stands there [CFG-1]", () => {
  const read = (lines: string) => () =>
    parseConfiguration(`[stores.edge]\nengine = "nats"\n${lines}`, { file: "a.toml", environment: () => undefined });
  const url = assertThrows(read('url = "http://h"'), ConfigValidationError);
  assertEquals([url.file, url.field], ["a.toml", "stores.edge.url"]);
  const tls = assertThrows(read('url = "wss://h"\ntls_ca_file = "ca.pem"'), ConfigValidationError, "'tls_ca_file'");
  assertEquals([tls.file, tls.field], ["a.toml", "stores.edge.tls_ca_file"]);
});
