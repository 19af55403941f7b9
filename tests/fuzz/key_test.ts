import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { encodeSegment, storeKey } from "../../src/core/store/key.ts";
import { subjectOf } from "../../src/adapters/nats/kv.ts";
import { combineIdentifiers, hashIdentifier } from "../../src/identifiers.ts";
import { anything, attempt, attemptAsync, fuzz, soup } from "./fuzz.ts";

const units = fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 12 }).map((list) =>
  String.fromCharCode(...list)
);
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.string({ unit: "grapheme", maxLength: 30 }),
  units,
  soup([
    "=",
    "==",
    "=2",
    "2E",
    ".",
    "*",
    ">",
    "/",
    " ",
    "\0",
    "\r\n",
    "\ud800",
    "\udc00",
    "a",
    "A",
    "_",
    "-",
    "ü",
    "%",
    "$KV",
  ], 12),
);
const longTexts = fc.tuple(texts, fc.nat(1_000)).map(([text, times]) => text.repeat(times).slice(0, 10_000));

const digest = (text: string) => Promise.resolve(createHash("sha256").update(text).digest("hex"));

async function keyOf(id: string, key?: string): Promise<string> {
  const place = storeKey(id, key, digest);
  return typeof place === "string" ? place : await place();
}

/** The other direction, from the description: `=XX` is a byte of UTF-8, where a lone surrogate counts as a character. */
function decodeSegment(segment: string): string {
  if (segment === "==") return "";
  const bytes = [...segment.matchAll(/=([0-9A-F]{2})|(.)/gs)].map(([, hex, plain]) =>
    hex === undefined ? plain!.charCodeAt(0) : Number.parseInt(hex, 16)
  );
  let text = "";
  for (let i = 0; i < bytes.length;) {
    const first = bytes[i]!;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    const start = length === 1 ? first : first & (0x7f >> length);
    const rest = bytes.slice(i + 1, i + length);
    text += String.fromCodePoint(rest.reduce((code, byte) => (code << 6) | (byte & 0x3f), start));
    i += length;
  }
  return text;
}

fuzz(
  "fuzz: encodeSegment() can be undone, so no two texts share a key",
  2_000,
  fc.property(fc.oneof({ weight: 9, arbitrary: texts }, longTexts), (text) => {
    const segment = encodeSegment(text);
    assertMatch(segment, /^[A-Za-z0-9_=-]+$/);
    assertEquals(decodeSegment(segment), text);
  }),
);

fuzz(
  "fuzz: storeKey() gives every pair of id and key a NATS subject of its own, of a bounded length",
  1_000,
  fc.asyncProperty(
    fc.oneof({ weight: 4, arbitrary: texts }, longTexts),
    fc.option(fc.oneof({ weight: 4, arbitrary: texts }, longTexts), { nil: undefined }),
    fc.oneof({ weight: 4, arbitrary: texts }, longTexts),
    async (id, key, other) => {
      const place = await keyOf(id, key);
      assert(place.length <= 513 && place.length > 0);
      assert(!/[*>\s]|^\.|\.$|\.\./.test(place), place);
      assertEquals(subjectOf("b", place), `$KV.b.${place}`);
      if (other !== id) assertNotEquals(await keyOf(other, key), place);
      if (other !== key) assertNotEquals(await keyOf(id, other), place);
      // The bounds between id and key, and the hash of a long one, cannot be imitated.
      if (key !== undefined) {
        assertNotEquals(await keyOf(`${id}.${key}`), place);
        assertNotEquals(await keyOf(place), place);
      }
    },
  ),
);

fuzz(
  "fuzz: subjectOf() takes a key or refuses it, and never lets one change the protocol",
  1_000,
  fc.property(fc.oneof(texts, anything.map(String.bind(undefined, "x")), longTexts), (key) => {
    const result = attempt(() => subjectOf("bucket", key));
    if (result.ok) assertMatch(result.value, /^\$KV\.bucket(\.[-/=\w]+)+$/);
  }),
);

fuzz(
  "fuzz: hashIdentifier() hashes any text as node:crypto does, and refuses the rest",
  500,
  fc.asyncProperty(
    fc.oneof({ weight: 3, arbitrary: texts }, anything),
    fc.oneof(
      fc.record<Record<string, unknown>>({
        length: fc.oneof(fc.integer({ min: 1, max: 200 }), anything),
        salt: fc.oneof(texts, anything),
        algorithm: fc.oneof(fc.constantFrom("sha256", "sha384", "sha512", "md5"), anything),
      }, { requiredKeys: [] }),
      anything,
    ),
    async (text, options) => {
      // Untyped code may give anything.
      const result = await attemptAsync(() => Reflect.apply(hashIdentifier, undefined, [text, options]));
      if (!result.ok) return;
      assert(typeof text === "string");
      const { length = 16, salt = "", algorithm = "sha256" } = Object(options ?? {}) as Record<string, string>;
      const normal = text.toLowerCase().trim();
      const hash = createHash(algorithm).update(salt === "" ? normal : `${salt}:${normal}`).digest("hex");
      assertEquals(result.value, hash.slice(0, Number(length)));
    },
  ),
);

fuzz(
  "fuzz: combineIdentifiers() joins what can be joined, and refuses the rest",
  500,
  fc.property(fc.array(fc.oneof(texts, fc.double(), anything), { maxLength: 4 }), (parts) => {
    const result = attempt(() => Reflect.apply(combineIdentifiers, undefined, parts));
    if (!result.ok) return;
    const isPart = (part: unknown) => part !== null && part !== undefined && part !== "" && typeof part !== "object";
    const last = parts.at(-1);
    const separator: unknown = typeof last === "object" && last !== null && "separator" in last
      ? last.separator
      : undefined;
    assertEquals(result.value, parts.filter(isPart).map(String).join(typeof separator === "string" ? separator : ":"));
  }),
);
