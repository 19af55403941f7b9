import { ConfigValidationError } from "../core/errors.ts";

/** What a NATS URL, or a list of them, means. */
export interface NatsTarget {
  /** For TCP `host:port`, for WebSockets `ws://host:port/…`: what nats.js dials. Never with credentials. */
  readonly servers: readonly string[];
  /** How to talk to them. */
  readonly transport: "tcp" | "websocket";
  /** Whether TLS is required. If not, it is still used with a server that requires it. */
  readonly tls: boolean;
  /** From `user:password@`. */
  readonly user?: string;
  /** From `user:password@`. */
  readonly password?: string;
  /** From `token@`. */
  readonly token?: string;
}

interface Scheme {
  readonly transport: "tcp" | "websocket";
  readonly tls: boolean;
  readonly port: number;
}

const SCHEMES: ReadonlyMap<string, Scheme> = new Map<string, Scheme>([
  ["nats", { transport: "tcp", tls: false, port: 4222 }],
  ["tls", { transport: "tcp", tls: true, port: 4222 }],
  ["ws", { transport: "websocket", tls: false, port: 80 }],
  ["wss", { transport: "websocket", tls: true, port: 443 }],
]);

const EXPECTED = "nats://, tls://, ws:// or wss:// URLs with commas between, e.g. nats://user:password@host:4222";

type Credentials = Pick<NatsTarget, "user" | "password" | "token">;

interface Part extends Scheme {
  readonly address: string;
  readonly credentials: Credentials | undefined;
}

/**
 * Reads one URL, or several separated by commas. nats.js does none of this: it takes `user:password@host` for a host,
 * and connects to `tls://` in plain text.
 *
 * @throws {ConfigValidationError} with field `url`. What may be part of a password or a token is not shown.
 */
export function parseNatsUrl(url: string): NatsTarget {
  const fail = (why: string): never => {
    throw new ConfigValidationError(`The NATS URL is not usable: ${why}.`, {
      field: "url",
      expected: EXPECTED,
      received: shownUrl(url),
    });
  };
  const texts = url.split(",").map((text) => text.trim());
  const parts = texts.map((text, i) => {
    const which = texts.length === 1 ? "it " : `part ${i + 1} of the list `;
    return parsePart(text, (why) => fail(`${which}${why}`));
  });
  const [first] = parts;
  if (first === undefined) return fail("it is empty");
  if (parts.some(({ transport }) => transport !== first.transport)) {
    return fail("it mixes WebSocket servers (ws://, wss://) with others (nats://, tls://); use one kind");
  }
  const given = parts.flatMap(({ credentials }) => credentials === undefined ? [] : [credentials]);
  if (new Set(given.map(({ user, password, token }) => JSON.stringify([user, password, token]))).size > 1) {
    return fail("its parts have different credentials; all servers of a list must accept the same");
  }
  return {
    servers: parts.map(({ address }) => address),
    transport: first.transport,
    tls: parts.some(({ tls }) => tls),
    ...given[0],
  };
}

/** The scheme and the host, and nothing after them: in `nats://user:password`, somebody forgot the host. */
function shownUrl(url: string): string {
  if (url.includes("@")) return "a URL with credentials, not shown here";
  const [whole = "", shown = ""] = /^([a-z][a-z0-9+.-]{0,19}:\/\/[a-z0-9._-]{0,255})(.*)$/is.exec(url) ?? [];
  if (shown === "") return url === "" ? '""' : "a text that is not shown here";
  return JSON.stringify(shown === whole ? shown : `${shown}…`);
}

function parsePart(text: string, fail: (why: string) => never): Part {
  if (text === "") return fail("is empty");
  if (/\p{Cs}/u.test(text)) return fail("has half of a surrogate pair, which is no character");
  const [, name = "nats", rest = ""] = /^(?:([^:/@]*):\/\/)?(.*)$/s.exec(text) ?? [];
  const scheme = SCHEMES.get(name.toLowerCase());
  if (scheme === undefined) return fail("has an unknown scheme");
  const at = rest.lastIndexOf("@");
  const [, authority = "", path = ""] = /^([^/?#]*)(.*)$/s.exec(rest.slice(at + 1)) ?? [];
  if (/[/?#]/.test(rest.slice(0, Math.max(at, 0)))) {
    return fail("has a /, ? or # in its credentials; write them as %2F, %3F and %23");
  }
  if (scheme.transport === "tcp" && path !== "" && path !== "/") return fail("has a path, query or fragment");
  const { host, port } = parseAuthority(authority, scheme.port, fail);
  return {
    ...scheme,
    address: scheme.transport === "tcp"
      ? `${host}:${port}`
      : `${name.toLowerCase()}://${host}:${port}/${path.replace(/^\//, "")}`,
    credentials: at < 0 ? undefined : parseCredentials(rest.slice(0, at), fail),
  };
}

function parseAuthority(text: string, defaultPort: number, fail: (why: string) => never) {
  const [, bracketed, plain, portText] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/s.exec(text) ??
    fail("has an address that cannot be read; write IPv6 as [::1]:4222");
  if (bracketed !== undefined && !/^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(bracketed)) {
    return fail("has something in brackets that is no IPv6 address");
  }
  if (bracketed === undefined && !/^[^\s\p{Cc}:@[\]/\\*>"'<]+$/u.test(plain ?? "")) {
    return fail(plain === "" ? "has no host" : "has a host with a character that no host name has");
  }
  const port = portText === undefined ? defaultPort : Number(portText);
  if (portText !== undefined && (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65_535)) {
    return fail("has a port that is no number from 1 to 65535");
  }
  return { host: bracketed === undefined ? plain : `[${bracketed}]`, port };
}

function parseCredentials(userinfo: string, fail: (why: string) => never): Credentials {
  const decode = (text: string) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return fail("has credentials with a % that starts no escape; write % as %25");
    }
  };
  const colon = userinfo.indexOf(":");
  if (userinfo === "" || colon === 0) return fail("has an @ without a user or token before it");
  if (colon < 0) return { token: decode(userinfo) };
  return { user: decode(userinfo.slice(0, colon)), password: decode(userinfo.slice(colon + 1)) };
}
