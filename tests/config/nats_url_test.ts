import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { type NatsTarget, parseNatsUrl } from "../../src/config/nats_url.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";

const tcp = (...servers: string[]): NatsTarget => ({ servers, transport: "tcp", tls: false });

const good: [string, NatsTarget][] = [
  ["nats://localhost:4222", tcp("localhost:4222")],
  ["nats://localhost", tcp("localhost:4222")],
  ["nats://localhost/", tcp("localhost:4222")],
  ["NATS://LocalHost:1", tcp("LocalHost:1")],
  ["localhost", tcp("localhost:4222")],
  ["demo.example:65535", tcp("demo.example:65535")],
  ["nats://[::1]", tcp("[::1]:4222")],
  ["nats://[fe80::1]:5000", tcp("[fe80::1]:5000")],
  ["nats://a, nats://b:1 ,c", tcp("a:4222", "b:1", "c:4222")],
  ["tls://a", { servers: ["a:4222"], transport: "tcp", tls: true }],
  ["nats://a,tls://b", { servers: ["a:4222", "b:4222"], transport: "tcp", tls: true }],
  ["ws://a", { servers: ["ws://a:80/"], transport: "websocket", tls: false }],
  ["wss://a", { servers: ["wss://a:443/"], transport: "websocket", tls: true }],
  ["ws://a?x=1", { servers: ["ws://a:80/?x=1"], transport: "websocket", tls: false }],
  ["wss://[::1]:8443/nats?x=1", { servers: ["wss://[::1]:8443/nats?x=1"], transport: "websocket", tls: true }],
  ["nats://user:pass@a", { ...tcp("a:4222"), user: "user", password: "pass" }],
  ["nats://user:@a", { ...tcp("a:4222"), user: "user", password: "" }],
  ["nats://user:a:b@a:1", { ...tcp("a:1"), user: "user", password: "a:b" }],
  ["nats://user:p@ss@a:1", { ...tcp("a:1"), user: "user", password: "p@ss" }],
  ["nats://token@a", { ...tcp("a:4222"), token: "token" }],
  ["num:123@host:4571", { ...tcp("host:4571"), user: "num", password: "123" }],
  ["nats://us%40er:p%2Fa%3As%2Cs%25@a", { ...tcp("a:4222"), user: "us@er", password: "p/a:s,s%" }],
  ["nats://t%C3%B6ken@[::1]", { ...tcp("[::1]:4222"), token: "töken" }],
  ["nats://u:p@a,nats://b", { ...tcp("a:4222", "b:4222"), user: "u", password: "p" }],
  ["nats://u:p@a,nats://u:p@b", { ...tcp("a:4222", "b:4222"), user: "u", password: "p" }],
];

for (const [url, target] of good) {
  test(`parseNatsUrl() reads ${url} [NATS-3]`, () => assertEquals(parseNatsUrl(url), target));
}

const bad: [string, string][] = [
  ["", "is empty"],
  ["nats://a,", "part 2 of the list is empty"],
  [",nats://a", "part 1 of the list is empty"],
  ["nats://", "has no host"],
  ["nats://:4222", "has no host"],
  ["http://a", "unknown scheme"],
  ["redis://a", "unknown scheme"],
  ["://a", "unknown scheme"],
  ["nats://a:0", "port"],
  ["nats://a:65536", "port"],
  ["nats://a:", "port"],
  ["nats://a:x", "port"],
  ["nats://a:1.5", "port"],
  ["nats://a:-1", "port"],
  ["nats://::1", "write IPv6 as [::1]:4222"],
  ["nats://[::1", "write IPv6 as [::1]:4222"],
  ["nats://a:1:2", "cannot be read"],
  ["nats://[a]:1", "no IPv6 address"],
  ["nats://a b", "character"],
  ["nats://a\r\nb", "character"],
  ["nats://*", "character"],
  ["nats://a/path", "path"],
  ["tls://a?x=1", "path"],
  ["nats://a#f", "path"],
  ["nats://a,ws://b", "mixes"],
  ["nats://@a", "without a user or token"],
  ["nats://:secret@a", "without a user or token"],
  ["nats://u:sec/ret@a", "%2F"],
  ["nats://u:sec%ret@a", "%25"],
  ["nats://u:one@a,nats://u:secret@b", "different credentials"],
  ["nats://one@a,nats://secret@b", "different credentials"],
  ["nats://u:sec,ret@a", "port"],
  ["nats://user:secret", "port"],
  ["nats://a:4222:secret", "cannot be read"],
  ["nats://a?token=secret", "path, query or fragment"],
  ["nats://a#secret", "path, query or fragment"],
  ["nats:/user:secret", "path"],
  ["nats://\ud800@a", "surrogate"],
  ["nats://a\0b", "character"],
];

for (const [url, why] of bad) {
  test(`parseNatsUrl() refuses ${JSON.stringify(url)} and says why`, () => {
    const error = assertThrows(() => parseNatsUrl(url), ConfigValidationError);
    assert(error instanceof ConfigValidationError);
    assertEquals(error.field, "url");
    assertStringIncludes(error.message, why);
    for (const part of ["secret", "sec/ret", "sec%ret", "ret@", "sec,"]) assert(!error.message.includes(part));
  });
}

const secret = fc.stringMatching(/^[^\p{C}\p{Z}]{6,20}$/u).map((text) => `s3cr3t${text}`);
const host = fc.domain();
const port = fc.integer({ min: 1, max: 65_535 });

test("parseNatsUrl() reads every user and password back that was percent-encoded [NATS-3]", () => {
  fc.assert(fc.property(secret, secret, host, port, (user, password, host, port) => {
    const url = `nats://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${port}`;
    assertEquals(parseNatsUrl(url), { ...tcp(`${host}:${port}`), user, password });
  }));
});

test("parseNatsUrl() reads a list of any length in its order [NATS-3]", () => {
  fc.assert(fc.property(fc.array(fc.tuple(host, port), { minLength: 1, maxLength: 9 }), (list) => {
    const servers = list.map(([host, port]) => `${host}:${port}`);
    assertEquals(parseNatsUrl(servers.map((server) => `nats://${server}`).join(",")), tcp(...servers));
  }));
});

test("parseNatsUrl() reads any text or throws a ConfigValidationError, and never shows a password [STO-5]", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[a-z:/@,[\].%#?0-9]{0,30}$/));
  fc.assert(fc.property(text, text, (before, after) => {
    try {
      parseNatsUrl(`${before}nats://user:s3cr3t@${after}`);
    } catch (error) {
      if (!(error instanceof ConfigValidationError)) throw error;
      assert(!error.message.includes("s3cr3t"));
      assert(!error.received.includes("s3cr3t"));
    }
  }));
});

test("parseNatsUrl() shows of what it refuses the scheme and the host", () => {
  for (
    const [url, received] of [
      ["http://a.example", '"http://a.example"'],
      ["nats://a.example:99999", '"nats://a.example…"'],
      ["nats://a/path", '"nats://a…"'],
      ["nats://u:p@a/path", "a URL with credentials, not shown here"],
      ["a b", "a text that is not shown here"],
      ["", '""'],
    ] as const
  ) assertEquals(assertThrows(() => parseNatsUrl(url), ConfigValidationError).received, received);
});
