import { assert, assertEquals, assertLessOrEqual, assertMatch, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { type Digest, encodeSegment, storeKey } from "../../../src/core/store/key.ts";

const digest: Digest = async (text) => {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

async function keyOf(id: string, key?: string): Promise<string> {
  const place = storeKey(id, key, digest);
  return typeof place === "string" ? place : await place();
}

/** Any text that JavaScript has, lone surrogates and everything that means something to NATS included. */
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.string({ unit: "grapheme", maxLength: 20 }),
  fc.array(fc.constantFrom("=", "==", ".", "*", ">", "/", "\\", " ", "\0", "\ud800", "\udc00", "a", "2", "E", "é"), {
    maxLength: 8,
  }).map((parts) => parts.join("")),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 6 }).map((units) => String.fromCharCode(...units)),
);

/** What NATS allows in a key: no empty token, no wildcard, no `.` at an end. */
const VALID = /^[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)?$/;

test("storeKey() leaves plain ids as they are, so that people can read them", async () => {
  assertEquals(await keyOf("api"), "api");
  assertEquals(await keyOf("partner-API_2"), "partner-API_2");
  assertEquals(await keyOf("api", "user-42"), "api.user-42");
});

test("storeKey() escapes everything else byte by byte [CLN-5]", async () => {
  assertEquals(await keyOf("a.b"), "a=2Eb");
  assertEquals(await keyOf("login", "user@example.com"), "login.user=40example=2Ecom");
  assertEquals(await keyOf("login", "1.2.3.4:8080"), "login.1=2E2=2E3=2E4=3A8080");
  assertEquals(await keyOf("*", ">"), "=2A.=3E");
  assertEquals(await keyOf("ü", "€😀"), "=C3=BC.=E2=82=AC=F0=9F=98=80");
  assertEquals(await keyOf("a", ""), "a.==");
  assertEquals(await keyOf("=", "\ud800"), "=3D.=ED=A0=80");
});

test("storeKey() gives valid NATS keys of a bounded length for any text [CLN-5]", async () => {
  await fc.assert(
    fc.asyncProperty(texts, fc.option(texts, { nil: undefined }), async (id, key) => {
      const place = await keyOf(id, key);
      assertMatch(place, VALID);
      assertLessOrEqual(place.length, 600);
      assertEquals(place.includes("."), key !== undefined);
    }),
    { numRuns: 500 },
  );
});

test("encodeSegment() gives different texts different segments", () => {
  fc.assert(
    fc.property(texts, texts, (a, b) => {
      assertEquals(encodeSegment(a) === encodeSegment(b), a === b);
    }),
    { numRuns: 2_000 },
  );
});

test("encodeSegment() of UTF-8 is what the rest of the world calls it", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (text) => {
      const bytes = encodeSegment(text).replaceAll("=", "%");
      assertEquals(decodeURIComponent(bytes), text);
    }),
  );
});

test("encodeSegment() tells every single code unit from every other", () => {
  const seen = new Set<string>();
  for (let unit = 0; unit <= 0xffff; unit++) seen.add(encodeSegment(String.fromCharCode(unit)));
  assertEquals(seen.size, 0x10000);
});

test("storeKey() gives different pairs of id and key different keys: nobody can forge another's [CLN-7]", async () => {
  await fc.assert(
    fc.asyncProperty(texts, fc.option(texts, { nil: undefined }), texts, fc.option(texts, { nil: undefined }), async (
      id,
      key,
      otherId,
      otherKey,
    ) => {
      assertEquals((await keyOf(id, key)) === (await keyOf(otherId, otherKey)), id === otherId && key === otherKey);
    }),
    { numRuns: 1_000 },
  );
  assertNotEquals(await keyOf("a:b", "c"), await keyOf("a", "b:c"));
  assertNotEquals(await keyOf("a.b"), await keyOf("a", "b"));
});

test("storeKey() hashes what is long, and keeps its start readable [CLN-5]", async () => {
  const long = "x".repeat(10_000);
  const place = await keyOf("api", long);
  assertMatch(place, /^api\.x{64}==[0-9a-f]{64}$/);
  assertNotEquals(place, await keyOf("api", long + "x"));
  assertEquals(place, await keyOf("api", long));
  assertMatch(await keyOf("é".repeat(100)), VALID);
  assertMatch(await keyOf("\ud800".repeat(5_000)), VALID);
});

test("storeKey() never lets a short text stand for the hash of a long one", async () => {
  const forged = (await keyOf("y".repeat(300))).replaceAll("=", "=");
  assertNotEquals(await keyOf(forged), await keyOf("y".repeat(300)));
});

test("storeKey() needs no promise for what is not hashed", () => {
  const unused: Digest = () => Promise.reject(new Error("not needed"));
  assertEquals(typeof storeKey("a".repeat(256), "b".repeat(256), unused), "string");
  assert(typeof storeKey("a".repeat(257), undefined, unused) === "function");
});
