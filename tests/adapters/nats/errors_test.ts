import { assert, assertEquals, assertStrictEquals, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { absenceOf, type Circumstances, toStoreError } from "../../../src/adapters/nats/errors.ts";
import { StoreUnavailableError } from "../../../src/core/errors.ts";

const at: Circumstances = { store: "s", server: "host:4222", bucket: "limits", doing: "write", timeoutMs: 2_000 };

/** An error in the shape of a copy of nats.js that this package does not know. */
function foreign(name: string, message: string, more: Record<string, unknown> = {}): Error {
  return Object.assign(new Error(message), { name }, more);
}
const api = (code: number, message: string) => foreign("JetStreamApiError", message, { code });
const permission = (operation: string, subject: string) =>
  foreign("PermissionViolationError", "Permissions Violation", { operation, subject });
const NUID = "EfiZhu9QX2CJVLYM5AWJ1D";

const rows: [string, unknown, string, "unknown" | "not_applied"][] = [
  ["refused", foreign("ConnectionError", "connection refused"), "Start nats-server", "not_applied"],
  [
    "refused, as Deno says it",
    foreign("ConnectionRefused", "Connection refused (os error 111)"),
    "Start",
    "not_applied",
  ],
  ["no permission in Deno", foreign("NotCapable", 'Requires net access to "host:4222"'), "--allow-net", "not_applied"],
  [
    "no permission in Deno, through Node's modules",
    foreign("Error", "getaddrinfo EPERM localhost", { code: "EPERM" }),
    "--allow-net",
    "not_applied",
  ],
  ["bad host", foreign("Error", "getaddrinfo ENOTFOUND x", { code: "ENOTFOUND" }), "cannot be resolved", "not_applied"],
  ["no way there", foreign("Error", "x", { code: "EHOSTUNREACH" }), "cannot be reached from this host", "not_applied"],
  [
    "no way there, as Deno says it",
    foreign("Error", "Network is unreachable (os error 101)"),
    "cannot be reached from this host",
    "not_applied",
  ],
  [
    "bad credentials",
    foreign("AuthorizationError", "Authorization Violation"),
    "rejected the credentials",
    "not_applied",
  ],
  ["expired credentials", foreign("UserAuthenticationExpiredError", "x"), "Renew", "not_applied"],
  [
    "bad CA",
    foreign("Error", "unable to verify the first certificate", { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" }),
    "Set tls_ca_file (tlsCaFile in code)",
    "not_applied",
  ],
  [
    "bad CA, as Deno says it",
    foreign("InvalidData", "invalid peer certificate: UnknownIssuer"),
    "tlsCaFile",
    "not_applied",
  ],
  ["no TLS there", foreign("ConnectionError", "server does not support 'tls'"), "does not offer TLS", "not_applied"],
  [
    "no JetStream",
    foreign("RequestError", "no responders", { cause: foreign("NoResponders", "x") }),
    "-js",
    "not_applied",
  ],
  ["no JetStream, from jetstream()", foreign("JetStreamNotEnabled", "jetstream is not enabled"), "-js", "not_applied"],
  ["no JetStream for the account", api(10039, "x"), "not enabled", "not_applied"],
  [
    "no bucket",
    foreign("StreamNotFoundError", "stream not found", { code: 10059 }),
    "nats kv add limits",
    "not_applied",
  ],
  [
    "no permission to publish",
    foreign("RequestError", "x", { cause: permission("publish", "$KV.limits.a") }),
    "may not publish on '$KV.limits.>'",
    "not_applied",
  ],
  [
    "no permission for the inbox",
    permission("subscription", `_INBOX.${NUID}.*`),
    "may not subscribe to '_INBOX.>' at host:4222. Give it that permission",
    "unknown",
  ],
  [
    "no permission for the inbox of a consumer",
    permission("subscription", `_INBOX.${NUID}`),
    "may not subscribe to '_INBOX.>'",
    "unknown",
  ],
  [
    "no permission for an inbox with a prefix of its own",
    permission("subscription", `my.inbox.${NUID}.*`),
    "may not subscribe to 'my.inbox.>'",
    "unknown",
  ],
  [
    "no permission for something that is no inbox",
    permission("publish", "$JS.API.STREAM.INFO.KV_limits"),
    "may not publish on '$JS.API.STREAM.INFO.KV_limits'",
    "not_applied",
  ],
  [
    "no client certificate",
    foreign("Error", "tlsv13 alert certificate required"),
    "Set tls_cert_file and tls_key_file (tlsCertFile and tlsKeyFile in code)",
    "not_applied",
  ],
  ["no TLS in common", foreign("Error", "tlsv1 alert protocol version"), "could be agreed on", "not_applied"],
  [
    "fewer servers than replicas",
    api(10074, "replicas > 1 not supported in non-clustered mode"),
    "Lower 'replicas'",
    "not_applied",
  ],
  [
    "a value that is too large for the bucket",
    api(10054, "message size exceeds maximum allowed"),
    "maximum value size of the bucket",
    "not_applied",
  ],
  ["no quorum", api(10008, "JetStream system temporarily unavailable"), "temporarily unavailable", "unknown"],
  ["no room", api(10047, "insufficient storage resources available"), "no room", "not_applied"],
  ["a full bucket", api(10077, "maximum bytes exceeded"), "nats stream edit KV_limits --max-bytes", "not_applied"],
  [
    "no WebSocket there",
    foreign("Error", "NetworkError: failed to connect to WebSocket: invalid HTTP version parsed"),
    "does not take this WebSocket",
    "unknown",
  ],
  ["no TTL", api(10166, "per-message TTL is disabled"), "time to live", "not_applied"],
  ["too large", foreign("InvalidArgumentError", "'payload' max_payload size exceeded"), "max_payload", "not_applied"],
  ["closed before it was sent", foreign("ClosedConnectionError", "closed connection"), "closed", "not_applied"],
  ["closed while on its way", foreign("RequestError", "connection closed"), "lost", "unknown"],
  ["disconnected while on its way", foreign("Error", "connection disconnected"), "lost", "unknown"],
  ["timeout", foreign("TimeoutError", "timeout"), "or raise backend_timeout (backendTimeoutMs in code)", "unknown"],
  ["an error nobody knows", foreign("Error", "strange"), "strange", "unknown"],
  ["no error at all", undefined, "no text", "unknown"],
];

for (const [what, error, sentence, outcome] of rows) {
  test(`toStoreError() says what to do: ${what} [ERR-5]`, () => {
    const result = toStoreError(error, at);
    assert(result instanceof StoreUnavailableError);
    assertStringIncludes(result.message, sentence);
    assertEquals(result.outcome, outcome);
    assertEquals(result.store, "s");
    assertStrictEquals(result.cause, error);
  });
}

test("toStoreError() of anything but a write is certain that nothing was written [ERR-5]", () => {
  assertEquals(toStoreError(foreign("TimeoutError", "timeout"), { ...at, doing: "read" }).outcome, "not_applied");
});

test("toStoreError() leaves an error alone that already says it [ERR-5]", () => {
  const error = new StoreUnavailableError("x", { store: "s" });
  assertStrictEquals(toStoreError(error, at), error);
});

test("absenceOf() tells what comes back by itself, or can be created, from what does not pass [ERR-5]", () => {
  const absences: [ReturnType<typeof absenceOf>, unknown, Circumstances["doing"]][] = [
    ["bucket", api(10059, "stream not found"), "write"],
    ["bucket", api(10166, "per-message TTL is disabled"), "write"],
    ["leader", foreign("RequestError", "no responders", { cause: foreign("NoResponders", "x") }), "write"],
    ["leader", api(10008, "JetStream system temporarily unavailable"), "read"],
    // It may have been written.
    [undefined, api(10008, "JetStream system temporarily unavailable"), "write"],
    [undefined, permission("publish", "$KV.limits.a"), "write"],
    [undefined, api(10077, "maximum bytes exceeded"), "write"],
    [undefined, foreign("TimeoutError", "timeout"), "read"],
  ];
  for (const [absence, error, doing] of absences) {
    assertEquals(absenceOf(toStoreError(error, { ...at, doing })), absence);
  }
  assertEquals(absenceOf(api(10059, "stream not found")), undefined);
});
