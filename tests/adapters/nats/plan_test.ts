import { assert, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import type { NatsStoreOptions } from "../../../src/adapters/nats/options.ts";
import { connectionPlan } from "../../../src/adapters/nats/plan.ts";
import { ConfigValidationError } from "../../../src/core/errors.ts";

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
];

for (const [what, options, field] of bad) {
  test(`connectionPlan() refuses ${what} [STO-1, STO-5]`, () => {
    const error = assertThrows(() => connectionPlan(options as NatsStoreOptions), ConfigValidationError);
    assert(error instanceof ConfigValidationError);
    assertEquals(error.field, field);
    assert(!error.message.includes("s3cret"));
  });
}
