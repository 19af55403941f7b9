import type { StoreOptions } from "./options.ts";

/** Replaces a secret. */
const MASK = "***";

const SECRET_KEYS: ReadonlySet<string> = new Set(["token", "password"]);
const SCHEME = /(?<=^|[\s,;"'(=])[a-z][a-z0-9+.-]*:\/\//gi;
const KEY_MATERIAL = /-----BEGIN|\bS[UAOCNX][A-Z2-7]{40}/;
/** What a JSON Web Token begins with, up to its first dot: `eyJ` is the start of an object in base64. */
const BEFORE_DOT = /(?<![\w-])[\w-]{11,}(?=\.[\w-]{8})/g;

/** Whether the whole value of the option with this name, in TOML or in code, is a secret. */
export function isSecretKey(key: string): boolean {
  return SECRET_KEYS.has(key);
}

/**
 * Replaces the user, password or token in every URL of a text by `***`, also in lists of URLs, and whatever follows a
 * `?` or `#`. Where it cannot tell what belongs to a password (which may contain `@`, `/` and commas), it masks too
 * much rather than too little.
 */
export function maskUrls(text: string): string {
  const starts = [0, ...Array.from(text.matchAll(SCHEME), (match) => match.index)];
  return starts.map((start, index) => maskOneUrl(text.slice(start, starts[index + 1]))).join("");
}

function maskOneUrl(url: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(url)?.[0] ?? "";
  const end = url.lastIndexOf("@");
  const query = scheme === "" ? -1 : url.search(/[?#]/);
  const separators = /(?<![\s,;"'(=])[\s,;"'(=]*$/.exec(url)?.[0] ?? "";
  if (query >= 0 && query < end) return `${scheme}${MASK}${separators}`;
  const host = end === -1 ? url : `${scheme}${MASK}${url.slice(end)}`;
  return query === -1 ? host : `${host.slice(0, host.search(/[?#]/))}?${MASK}${separators}`;
}

/** Whether a URL, or one of several separated by commas, contains a user, a password or a token. */
export function hasUserinfo(url: string): boolean {
  return url.includes("@");
}

/** Whether a text contains a private key, an NKey seed or a JSON Web Token, wherever somebody may have put it. */
export function holdsKeyMaterial(text: string): boolean {
  if (KEY_MATERIAL.test(text)) return true;
  // As one pattern, this would take time that grows with the square of the text's length.
  return Array.from(text.matchAll(BEFORE_DOT)).some(([run]) => run.lastIndexOf("eyJ", run.length - 11) >= 0);
}

/** A text in a form that may appear in errors and logs: shortened, and without the secrets that can be recognised. */
export function maskText(text: string): string {
  const masked = maskWhole(text);
  return masked.length > 60 ? `${masked.slice(0, 60)}…` : masked;
}

/** A text of any length, without the secrets that can be recognised. */
function maskWhole(text: string): string {
  return holdsKeyMaterial(text) ? MASK : maskUrls(text);
}

/**
 * The options of a store in a form that may be listed or logged: `token` and `password` are `***`, URLs lose what
 * authenticates, and objects that were handed in (`connection`, `kv`, `clock`) are named but not shown. Options without
 * a value are left out, and so is `replace`, which is not a property of the store.
 */
export function maskStoreOptions(options: StoreOptions): Readonly<Record<string, string | number | boolean>> {
  const listed = new Map<string, string | number | boolean>();
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || key === "replace") continue;
    if (isSecretKey(key)) listed.set(key, MASK);
    else if (typeof value === "string") listed.set(key, maskWhole(value));
    else if (typeof value === "number" || typeof value === "boolean") listed.set(key, value);
    else listed.set(key, "given in code");
  }
  return Object.fromEntries(listed);
}
