import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { kvStub } from "./stubs.ts";
import {
  hasUserinfo,
  holdsKeyMaterial,
  isSecretKey,
  maskStoreOptions,
  maskText,
  maskUrls,
} from "../../src/config/secrets.ts";

const seed = `SU${"A2B3C4D5E6".repeat(6)}`.slice(0, 58);

test("isSecretKey() knows the options that are secrets", () => {
  assertEquals(["token", "password", "url", "user"].map(isSecretKey), [true, true, false, false]);
});

test("maskUrls() hides what stands before the host, in every URL [STO-5]", () => {
  assertEquals(maskUrls("nats://user:pass@h:4222"), "nats://***@h:4222");
  assertEquals(maskUrls("nats://t0ken@h"), "nats://***@h");
  assertEquals(maskUrls("nats://a:b@h1:1,tls://c:d@h2:2, wss://e@h3"), "nats://***@h1:1,tls://***@h2:2, wss://***@h3");
  assertEquals(maskUrls("user:pass@h:4222"), "***@h:4222");
  assertEquals(maskUrls("nats://h1,user:pass@h2"), "nats://***@h2");
});

test("maskUrls() keeps URLs without anything to hide", () => {
  for (const url of ["nats://h:4222", "nats://h1,nats://h2", "h:4222", "", "nats://[::1]:4222"]) {
    assertEquals(maskUrls(url), url);
  }
});

test("maskUrls() hides passwords that hold the characters of URLs [STO-5]", () => {
  for (const password of ["p@ss", "p/ss", "p,ss", "p:ss", "p?s#s", "p://x", "p ss"]) {
    assertEquals(maskUrls(`nats://user:${password}@h:4222`).includes(password), false, password);
  }
});

test("maskUrls() hides what a URL says after its address, as that may authenticate too [STO-5]", () => {
  assertEquals(maskUrls("ws://h/nats?token=s3cr3t"), "ws://h/nats?***");
  assertEquals(maskUrls("ws://h?token=s3cr3t, ws://g#s3cr3t"), "ws://h?***, ws://g?***");
  assertEquals(maskUrls("ws://u:p@h/nats?token=s3cr3t"), "ws://***@h/nats?***");
  assertEquals(maskUrls("ws://h/?token=a@s3cr3t"), "ws://***");
  assertEquals(maskUrls("what? nothing"), "what? nothing");
});

test("maskUrls() never lets a password through (property)", () => {
  const password = fc.stringMatching(/^[A-Za-z0-9@:/,?#%!-]{3,12}$/).map((text) => `Z${text}Z`);
  fc.assert(fc.property(password, fc.nat(3), (secret, before) => {
    const url = `${"nats://a:b@c,".repeat(before)}nats://user:${secret}@host`;
    assertEquals(maskUrls(url).includes(secret), false, url);
  }));
});

test("hasUserinfo() sees credentials in any of several URLs", () => {
  assertEquals(hasUserinfo("nats://h,nats://t@h"), true);
  assertEquals(hasUserinfo("nats://h,nats://g"), false);
});

test("holdsKeyMaterial() recognises seeds, keys and tokens", () => {
  for (
    const text of [
      seed,
      "-----BEGIN PRIVATE KEY-----\nx",
      "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
      "x-eyJhbGciOiJI.eyJzdWIiOiIx",
    ]
  ) {
    assertEquals(holdsKeyMaterial(text), true);
  }
  for (const text of ["/etc/nats/user.creds", "SUPER", "eyJ"]) assertEquals(holdsKeyMaterial(text), false);
});

test("maskText() hides secrets and shortens", () => {
  assertEquals(maskText(seed), "***");
  assertEquals(maskText("nats://a:b@h"), "nats://***@h");
  assertEquals(maskText("x".repeat(100)), `${"x".repeat(60)}…`);
});

test("maskStoreOptions() lists every option and no secret [STO-5]", () => {
  const listed = maskStoreOptions({
    engine: "nats",
    url: "nats://a:b@h1,nats://c:d@h2",
    user: "me",
    password: "s3cr3t",
    token: undefined,
    replicas: 3,
    autoCreate: true,
    replace: true,
  });
  assertEquals(listed, {
    engine: "nats",
    url: "nats://***@h1,nats://***@h2",
    user: "me",
    password: "***",
    replicas: 3,
    autoCreate: true,
  });
  assertEquals(maskStoreOptions({ engine: "nats", url: "nats://h", token: "123" })["token"], "***");
});

test("maskStoreOptions() names objects that were handed in, and does not show them", () => {
  assertEquals(maskStoreOptions({ kv: kvStub }), { kv: "given in code" });
});
