import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import type { NatsStoreOptions } from "../../src/adapters/nats/options.ts";
import { connectionPlan } from "../../src/config/nats_plan.ts";
import { type NatsTarget, parseNatsUrl } from "../../src/config/nats_url.ts";
import { checkNatsOptions } from "../../src/config/stores.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { connectionStub } from "../config/stubs.ts";
import { assertDiscreet, attempt, damaged, fuzz, SECRET, soup } from "./fuzz.ts";

const schemes = fc.constantFrom("nats", "tls", "ws", "wss", "NATS", "Tls");
const hosts = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV6().map((address) => `[${address}]`),
  fc.constantFrom("localhost", "a_b"),
);
const ports = fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined });
const userinfo = fc.option(
  fc.record({
    user: fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }),
    password: fc.option(fc.oneof(fc.string({ unit: "grapheme", maxLength: 8 }), fc.constant(SECRET)), {
      nil: undefined,
    }),
  }),
  { nil: undefined },
);

interface Parts {
  readonly scheme: string;
  readonly host: string;
  readonly port: number | undefined;
  readonly userinfo: { readonly user: string; readonly password: string | undefined } | undefined;
}

const parts: fc.Arbitrary<Parts> = fc.record({ scheme: schemes, host: hosts, port: ports, userinfo });

function textOf({ scheme, host, port, userinfo }: Parts): string {
  const escape = (text: string) => encodeURIComponent(text);
  const login = userinfo === undefined
    ? ""
    : userinfo.password === undefined
    ? `${escape(userinfo.user)}@`
    : `${escape(userinfo.user)}:${escape(userinfo.password)}@`;
  return `${scheme}://${login}${host}${port === undefined ? "" : `:${port}`}`;
}

fuzz(
  "fuzz: parseNatsUrl() finds in a URL what it was made of, as WHATWG URL does",
  700,
  fc.property(parts, (made) => {
    const url = textOf(made);
    const target = parseNatsUrl(url);
    const isWeb = made.scheme.toLowerCase().startsWith("ws");
    assertEquals(target.transport, isWeb ? "websocket" : "tcp");
    assertEquals(target.tls, ["tls", "wss"].includes(made.scheme.toLowerCase()));
    const { user, password } = made.userinfo ?? {};
    assertEquals(target.user, password === undefined ? undefined : user);
    assertEquals(target.password, password);
    assertEquals(target.token, password === undefined ? user : undefined);
    const [address = ""] = target.servers;
    assertEquals(target.servers.length, 1);
    assert(!address.includes("@"));
    // Bun reads fewer forms of IPv6 than there are.
    if (!URL.canParse(`http://${made.host}`)) return;
    // http: is what the standard treats like ws:, and other schemes have no host that it would look at.
    const standard = new URL(url.replace(/^[a-z]+/i, "http"));
    const dialled = new URL(isWeb ? address.replace(/^ws/, "http") : `http://${address}`);
    const defaultPort = isWeb ? target.tls ? 443 : 80 : 4222;
    assertEquals(dialled.hostname, standard.hostname);
    // The standard leaves out a port that is the scheme's own.
    assertEquals(Number(dialled.port || (dialled.protocol === "https:" ? 443 : 80)), made.port ?? defaultPort);
    assertEquals(decodeURIComponent(standard.username), user ?? "");
    assertEquals(decodeURIComponent(standard.password), password ?? "");
  }),
);

/** The same target as one URL for each server. */
function rebuilt({ servers, transport, tls, user, password, token }: NatsTarget): string {
  const login = token !== undefined
    ? `${encodeURIComponent(token)}@`
    : user !== undefined
    ? `${encodeURIComponent(user)}:${encodeURIComponent(password ?? "")}@`
    : "";
  return servers.map((server) => {
    const [scheme, address] = transport === "websocket"
      ? [server.slice(0, server.indexOf(":")), server.slice(server.indexOf(":") + 3)]
      : [tls ? "tls" : "nats", server];
    return `${scheme}://${login}${address}`;
  }).join(",");
}

const PIECES = [
  "nats://",
  "tls://",
  "ws://",
  "wss://",
  "http://",
  "://",
  "@",
  ":",
  "/",
  ",",
  " ",
  "[",
  "]",
  "::1",
  "[::1]",
  "%",
  "%40",
  "%zz",
  "%ff",
  "?",
  "#",
  "a",
  "user",
  "4222",
  "0",
  "65536",
  "\n",
  "\0",
  "*",
  ">",
  "\ud800",
  "é",
  "\\",
]; // deno-fmt-ignore
const lists = fc.array(parts.map(textOf), { minLength: 1, maxLength: 3 }).map((urls) => urls.join(","));
const anyUrl = fc.oneof(fc.string({ unit: "binary", maxLength: 40 }), soup(PIECES, 14), damaged(lists, PIECES));

fuzz(
  "fuzz: parseNatsUrl() reads a text or says why not, and what it has read it reads again",
  1_500,
  fc.property(anyUrl, (url) => {
    const result = attempt(() => parseNatsUrl(url));
    if (!result.ok) return assert(result.error instanceof ConfigValidationError && result.error.field === "url");
    for (const server of result.value.servers) {
      assert(!/[@\s*>"'<\\]/.test(server.replace(/^(wss?:\/\/[^/]*).*$/s, "$1")), server);
    }
    // A server without TLS beside one with it requires TLS as well.
    assertEquals(parseNatsUrl(rebuilt(result.value)), result.value);
  }),
);

/** Where a password or token stands, or was meant to stand. */
const SECRET_PLACES = [
  `nats://user:${SECRET}@`,
  `nats://${SECRET}@`,
  `user:${SECRET}@`,
  `nats://user:a@b${SECRET}@`,
  `nats://user:${SECRET}`,
  `nats://host:${SECRET}@`,
  `nats://user:p/${SECRET}`,
  `nats://host?token=${SECRET}`,
  `nats://host:4222/?a=1&token=${SECRET}`,
  `nats://host#${SECRET}`,
  `nats://user:a,b${SECRET}@`,
  `nats:/user:${SECRET}`,
];

fuzz(
  "fuzz: parseNatsUrl() shows no password and no token, whatever stands around it",
  1_000,
  fc.property(
    fc.oneof(lists, fc.constant(""), soup(PIECES, 4)),
    fc.constantFrom(...SECRET_PLACES),
    anyUrl,
    (before, secret, after) => {
      for (const url of [`${before},${secret}${after}`, `${before}${secret}${after}`]) {
        const result = attempt(() => parseNatsUrl(url));
        if (!result.ok) assertDiscreet(result.error);
        else {assert(
            !result.value.servers.join().includes(SECRET) || !/@|:\/\/[^/]*\/?[?#]/.test(url) || /^\s*wss?:/i.test(url),
            url,
          );}
      }
    },
  ),
);

const someText = fc.constantFrom("nats://h", "tls://h", "ws://h", `nats://u:${SECRET}@h`, SECRET, "/etc/x", "");
/** As untyped code may give them: the types allow no combination that contradicts itself. */
type LooseOptions = Partial<Record<keyof NatsStoreOptions, string | typeof connectionStub | undefined>>;

const connecting = fc.record<LooseOptions>({
  url: fc.option(fc.constantFrom("nats://h", "tls://a,b", "ws://h", `nats://u:${SECRET}@h`, "x y"), { nil: undefined }),
  connection: fc.option(fc.constant(connectionStub), { nil: undefined, freq: 1 }),
  token: fc.option(someText, { nil: undefined }),
  user: fc.option(someText, { nil: undefined }),
  password: fc.option(someText, { nil: undefined }),
  credentialsFile: fc.option(someText, { nil: undefined }),
  nkeySeedFile: fc.option(someText, { nil: undefined }),
  tlsCaFile: fc.option(someText, { nil: undefined }),
  tlsCertFile: fc.option(someText, { nil: undefined }),
  tlsKeyFile: fc.option(someText, { nil: undefined }),
}, { requiredKeys: [] });

fuzz(
  "fuzz: a plan of options that were checked knows one way to authenticate or says what contradicts what",
  700,
  fc.property(connecting, (options) => {
    const result = attempt(() => connectionPlan(checkNatsOptions("main", options)));
    if (!result.ok) {
      assert(result.error instanceof ConfigValidationError);
      return assertDiscreet(result.error);
    }
    const ways = [
      String(options.url).includes("@"),
      options.token !== undefined,
      options.user !== undefined,
      options.credentialsFile !== undefined,
      options.nkeySeedFile !== undefined,
    ].filter(Boolean).length;
    if (options.connection !== undefined) return assertEquals(result.value, undefined);
    assert(result.value !== undefined && ways <= 1);
    assertEquals(result.value.login.kind === "none", ways === 0);
  }),
);

test("fuzz: parseNatsUrl() is done with 100,000 of anything", () => {
  for (const piece of [...PIECES, "nats://a,", "nats://u:p@", "a:", "%40"]) {
    for (
      const url of [piece.repeat(100_000), `nats://${piece.repeat(100_000)}`, `nats://u:${piece.repeat(100_000)}@h`]
    ) {
      attempt(() => parseNatsUrl(url));
    }
  }
});
