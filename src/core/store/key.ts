/** A segment longer than this is replaced by its start and a hash: NATS refuses a protocol line above 4 KiB. */
const LONGEST_SEGMENT = 256;
const KEPT_OF_LONG = 64;

/** Turns text into a hash of a fixed number of hex digits, without known collisions. */
export type Digest = (text: string) => Promise<string>;

/**
 * The key of a limiter in its store: the encoded id, and for a keyed limiter a `.` and the encoded key. Injective: no
 * two identifiers share a key. Readable for ids of letters, digits, `-` and `_`, which stay as they are.
 *
 * Returns a function that makes a promise of the key only if a part is so long that it has to be hashed. Without a
 * `digest` such a part stays as it is.
 */
export function storeKey(
  id: string,
  key: string | undefined,
  digest: Digest | undefined,
): string | (() => Promise<string>) {
  const segments = key === undefined ? [id] : [id, key];
  const encoded = segments.map(encodeSegment);
  if (!digest || encoded.every((segment) => segment.length <= LONGEST_SEGMENT)) return encoded.join(".");
  return async () => (await Promise.all(encoded.map((segment) => shortened(segment, digest)))).join(".");
}

/**
 * Any text as one token of a NATS subject: every character except letters, digits, `-` and `_` becomes `=XX` for each
 * of its UTF-8 bytes. A lone surrogate is encoded as if it were a character, so that it differs from any other.
 */
export function encodeSegment(text: string): string {
  if (text === "") return "==";
  if (/^[A-Za-z0-9_-]+$/.test(text)) return text;
  let encoded = "";
  for (const character of text) {
    encoded += /^[A-Za-z0-9_-]$/.test(character) ? character : utf8(character.codePointAt(0)!).map(escaped).join("");
  }
  return encoded;
}

// `==` never occurs inside an encoded segment: an `=` there is followed by two hex digits.
async function shortened(segment: string, digest: Digest): Promise<string> {
  if (segment.length <= LONGEST_SEGMENT) return segment;
  return `${segment.slice(0, KEPT_OF_LONG)}==${await digest(segment)}`;
}

function escaped(byte: number): string {
  return "=" + byte.toString(16).toUpperCase().padStart(2, "0");
}

function utf8(code: number): number[] {
  const rest = (shift: number) => 0x80 | ((code >> shift) & 0x3f);
  if (code < 0x80) return [code];
  if (code < 0x800) return [0xc0 | (code >> 6), rest(0)];
  if (code < 0x10000) return [0xe0 | (code >> 12), rest(6), rest(0)];
  return [0xf0 | (code >> 18), rest(12), rest(6), rest(0)];
}
