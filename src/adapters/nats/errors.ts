import { StoreUnavailableError } from "../../core/errors.ts";

/** What was going on when something failed. */
export interface Circumstances {
  /** The id of the store. */
  readonly store: string;
  /** The servers as `host:port`, without credentials. */
  readonly server: string;
  /** The JetStream domain that was asked for, if any. */
  readonly domain?: string | undefined;
  /** The Key-Value bucket. */
  readonly bucket: string;
  /** What was being done. */
  readonly doing: "connect" | "bind" | "read" | "write" | "ask";
  /** How long it was allowed to take, in milliseconds. */
  readonly timeoutMs: number;
}

/** What an error of nats.js and its causes reveal, whichever copy of the library it comes from. */
interface Facts {
  readonly names: ReadonlySet<string>;
  readonly codes: ReadonlySet<string | number>;
  readonly text: string;
  readonly operation: string | undefined;
  readonly subject: string | undefined;
}

interface Diagnosis {
  readonly when: (facts: Facts) => boolean;
  readonly say: (at: Circumstances, facts: Facts) => string;
  /** Whether a write was certainly not applied. */
  readonly applied: "no" | "unknown" | ((facts: Facts) => "no" | "unknown");
}

const named = (...names: string[]) => (facts: Facts) => names.some((name) => facts.names.has(name));
const coded = (...codes: (string | number)[]) => (facts: Facts) => codes.some((code) => facts.codes.has(code));
const says = (pattern: RegExp) => (facts: Facts) => pattern.test(facts.text);
const either = (...tests: ((facts: Facts) => boolean)[]) => (facts: Facts) => tests.some((test) => test(facts));

const WHY_IT_MAY_NOT_CONNECT =
  "It may be unreachable or overloaded, be no nats-server (or the port be another one than that for clients), have no room for " +
  "another connection (max_connections), or want a client certificate (tls_cert_file and tls_key_file; in code tlsCertFile and tlsKeyFile).";

/** A connection's inbox: a prefix, and a name that is another one in each connection, so nobody can permit it. */
const OWN_INBOX = /^(.+?)\.[0-9A-Za-z]{22}(\..*)?$/;

/** The subject of a value. Its key says nothing about a permission, and may identify the program's user. */
const VALUE = /^((?:\$JS\.[^.]+\.API\.)?\$KV\.[^.]+\.).*$/;

const CERTIFICATE_CODES = [
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_UNTRUSTED",
  "ERR_TLS_CERT_ALTNAME_INVALID",
];

/** From the most to the least telling: the first that matches is what happened. */
const DIAGNOSES: readonly Diagnosis[] = [
  {
    when: named("PermissionViolationError"),
    // without its inbox a client gets no answer, but what it sent was accepted
    applied: ({ operation }) => operation === "subscription" ? "unknown" : "no",
    say: ({ server }, { operation, subject = "?" }) => {
      const shown = subject.replace(VALUE, "$1>").replace(OWN_INBOX, "$1.>");
      return `the user may not ${
        operation === "subscription" ? "subscribe to" : "publish on"
      } '${shown}' at ${server}. ` +
        "Give it that permission in the server's configuration.";
    },
  },
  {
    when: named("UserAuthenticationExpiredError"),
    applied: "no",
    say: ({ server }) => `the credentials for ${server} have expired. Renew them.`,
  },
  {
    when: either(named("AuthorizationError"), says(/authorization violation|authentication (timeout|expired)/i)),
    applied: "no",
    say: ({ server }) =>
      `${server} rejected the credentials, or wants some. Check token, user and password, credentials_file or ` +
      `nkey_seed_file (credentialsFile or nkeySeedFile in code).`,
  },
  {
    // Deno reports this in its own way and, through Node's modules, as a failed name lookup.
    when: either(named("NotCapable"), coded("EPERM", "EACCES"), says(/requires net access/i)),
    applied: "no",
    say: ({ server }) =>
      `this process may not connect to ${server}. In Deno, allow it with --allow-net; elsewhere look for a firewall.`,
  },
  {
    when: either(
      coded("ECONNREFUSED"),
      named("ConnectionRefused"),
      says(/connection refused|failed: failed to connect/i),
    ),
    applied: "no",
    say: ({ server }) => `nothing accepts connections at ${server}. Start nats-server there, or correct 'url'.`,
  },
  {
    when: either(
      coded("ENOTFOUND", "EAI_AGAIN", "EAI_NODATA", "EAI_NONAME"),
      says(/failed to lookup address|getaddrinfo/i),
    ),
    applied: "no",
    say: ({ server }) => `the host name in ${server} cannot be resolved. Correct 'url', or check DNS.`,
  },
  {
    when: either(
      coded("EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "ECONNABORTED"),
      says(/network is unreachable/i),
    ),
    applied: "no",
    say: ({ server }) => `${server} cannot be reached from this host. Check the network and 'url'.`,
  },
  {
    when: either(
      coded("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", "ERR_SSL_TLSV1_ALERT_BAD_CERTIFICATE"),
      says(/certificate required|bad certificate/i),
    ),
    applied: "no",
    say: ({ server }) =>
      `${server} wants a client certificate. Set tls_cert_file and tls_key_file (tlsCertFile and tlsKeyFile in code).`,
  },
  {
    when: either(
      coded(...CERTIFICATE_CODES),
      says(
        /invalid peer certificate|self[- ]signed certificate|unable to (verify|get).*certificate|certificate has expired/i,
      ),
    ),
    applied: "no",
    say: ({ server }, { codes }) => {
      const code = CERTIFICATE_CODES.find((known) => codes.has(known));
      return `the TLS certificate of ${server} is not trusted${code ? ` (${code})` : ""}. ` +
        "Set tls_ca_file (tlsCaFile in code) to the certificate authority that issued it (with wss:// the runtime's: DENO_CERT, NODE_EXTRA_CA_CERTS), " +
        "and check its dates and host names.";
    },
  },
  {
    when: says(/does not support 'tls'|'tls' is not available/i),
    applied: "no",
    say: ({ server }) => `${server} does not offer TLS, which tls:// or a TLS option asks for. Turn it on there.`,
  },
  {
    when: says(/^(SSL|TLS)|tlsv1|ssl routines|alert|wrong version number|ECONNRESET.*TLS/i),
    applied: "no",
    say: ({ server }) => `no TLS connection to ${server} could be agreed on. Check the certificates on both sides.`,
  },
  {
    when: coded(10059),
    applied: "no",
    say: (at) => missingBucket(at),
  },
  {
    when: coded(10039, 10076),
    applied: "no",
    say: ({ server }) => `JetStream is not enabled at ${server} for this account. Enable it there.`,
  },
  {
    when: named("NoResponders", "NoRespondersError", "JetStreamNotEnabled"),
    applied: "no",
    say: ({ server, bucket, domain }) =>
      domain === undefined
        ? `nobody answers for JetStream at ${server}. Either it is not enabled (start nats-server with -js), or the bucket ` +
          `'${bucket}' has no leader at the moment.`
        : `nobody answers for the JetStream domain '${domain}' at ${server}. Either there is no such domain, or no ` +
          `connection to it, or the bucket '${bucket}' has no leader at the moment.`,
  },
  {
    when: coded(10074, 10005),
    applied: "no",
    say: ({ server, bucket }) =>
      `${server} has not enough servers for the replicas of the bucket '${bucket}'. Lower 'replicas', or add servers.`,
  },
  {
    when: says(/maximum (bytes|messages) exceeded/i),
    applied: "no",
    say: ({ bucket }, { text }) =>
      `the bucket '${bucket}' is full (${text}). Raise that limit of it (nats stream edit KV_${bucket} --max-bytes=…).`,
  },
  {
    when: coded(10023, 10047, 10028, 10077, 10026, 10027, 10002),
    applied: "no",
    say: ({ server, bucket }, { text }) =>
      `${server} has no room for the bucket '${bucket}' (${text}). Raise its JetStream limits, or free some of them.`,
  },
  {
    when: coded(10054),
    applied: "no",
    say: ({ bucket }, { text }) =>
      `the value is larger than the bucket '${bucket}' takes (${text}). Raise the maximum value size of the bucket.`,
  },
  {
    when: says(/max_payload/),
    applied: "no",
    say: ({ bucket }) => `the value is larger than ${bucket}'s server accepts. Raise max_payload there.`,
  },
  {
    when: coded(10165, 10166),
    applied: "no",
    say: ({ bucket }, { text }) => `the bucket '${bucket}' does not take a time to live (${text}).`,
  },
  {
    when: coded(10008, 10009, 10041),
    applied: "unknown",
    say: ({ server }) => `JetStream at ${server} is temporarily unavailable: too few servers of the cluster are up.`,
  },
  {
    when: named("ClosedConnectionError", "DrainingConnectionError"),
    applied: "no",
    say: ({ server }) => `the connection to ${server} was closed.`,
  },
  {
    when: says(/^connection (closed|disconnected)|^cancelled$|ECONNRESET|socket hang up|EPIPE/i),
    applied: "unknown",
    say: ({ server }) => `the connection to ${server} was lost. It is tried again by itself.`,
  },
  {
    when: says(/websocket|HTTP version|corrupt message/i),
    applied: "unknown",
    say: ({ server }, { text }) =>
      `${server} does not take this WebSocket (${text}). Check the port, and whether it wants ws://, wss:// or nats://.`,
  },
  {
    when: named("TimeoutError"),
    applied: "unknown",
    say: ({ server, doing, timeoutMs }) =>
      doing === "connect"
        ? `${server} did not complete the connection within ${timeoutMs} ms. ${WHY_IT_MAY_NOT_CONNECT}`
        : `${server} did not answer within ${timeoutMs} ms. Check its load and the network, or raise backend_timeout ` +
          `(backendTimeoutMs in code).`,
  },
];

/** What an opening in progress waits for. */
export function openingProblem({ server, bucket, doing }: Pick<Circumstances, "server" | "bucket" | "doing">): string {
  return doing === "connect"
    ? `${server} has not completed the connection. ${WHY_IT_MAY_NOT_CONNECT}`
    : `nobody at ${server} has answered yet for JetStream and the bucket '${bucket}'. Check its load and the network.`;
}

/** What was absent when a call failed. */
export type Absence = "bucket" | "leader";

const isElection = coded(10008);
const isLeaderless = either(named("NoResponders", "NoRespondersError"), isElection);

/**
 * What was missing when a call failed without having been applied: the bucket, or anybody who answers for it at this
 * moment. `undefined` if it failed for another reason.
 */
export function absenceOf(error: unknown): Absence | undefined {
  if (!(error instanceof StoreUnavailableError) || error.outcome !== "not_applied") return undefined;
  const facts = factsOf(error);
  // A bucket that takes no time to live is not the one that this process knows, but another of that name.
  if (coded(10059, 10166)(facts)) return "bucket";
  return isLeaderless(facts) ? "leader" : undefined;
}

/** Whether the cluster says that it has no leader at this moment, so that it is worth asking again. */
export function saysElection(error: unknown): boolean {
  return isElection(factsOf(error));
}

/** What to do about a bucket that does not exist. */
export function missingBucket(
  { bucket, domain }: Pick<Circumstances, "bucket" | "domain">,
  description?: string,
): string {
  const [where, option] = domain === undefined
    ? ["", ""]
    : [` in the JetStream domain '${domain}'`, ` --js-domain ${domain}`];
  return `KV bucket '${bucket}' not found${where}. Set auto_create = true (autoCreate in code), or create it: ` +
    `nats${option} kv add ${bucket} --history 1 --ttl 24h --storage file` +
    (description === undefined ? "" : ` --description "${description}"`);
}

/** Whether something may have happened although no answer came. */
export function mayChange(doing: Circumstances["doing"]): boolean {
  return doing === "write" || doing === "ask";
}

/**
 * Says in one sentence what an error of the driver means, which server it is about and what to do. An error that
 * already says so is returned as it is.
 */
export function toStoreError(error: unknown, at: Circumstances): StoreUnavailableError {
  if (error instanceof StoreUnavailableError) return error;
  const facts = factsOf(error);
  const diagnosis = DIAGNOSES.find(({ when }) => when(facts));
  const applied = typeof diagnosis?.applied === "function" ? diagnosis.applied(facts) : diagnosis?.applied;
  return new StoreUnavailableError(
    diagnosis?.say(at, facts) ?? `${at.server} answered with an error (${facts.text || "no text"}).`,
    {
      store: at.store,
      cause: error,
      outcome: applied === "no" || !mayChange(at.doing) ? "not_applied" : "unknown",
    },
  );
}

function factsOf(error: unknown): Facts {
  const names = new Set<string>();
  const codes = new Set<string | number>();
  let text = "";
  let operation: string | undefined;
  let subject: string | undefined;
  let current: unknown = error;
  for (let depth = 0; depth < 5 && typeof current === "object" && current !== null; depth++) {
    const { name, code, message, cause, ...more } = shape(current);
    if (typeof name === "string") names.add(name);
    if (typeof code === "string" || typeof code === "number") codes.add(code);
    if (text === "" && typeof message === "string") text = message;
    if (typeof more.operation === "string") operation = more.operation;
    if (typeof more.subject === "string") subject = more.subject;
    current = cause;
  }
  return { names, codes, text, operation, subject };
}

/** The properties that errors of nats.js and of the runtimes may have. */
function shape(
  value: object,
): Partial<Record<"name" | "code" | "message" | "cause" | "operation" | "subject", unknown>> {
  const read = (key: string): unknown => Reflect.get(value, key);
  return {
    name: read("name"),
    code: read("code"),
    message: read("message"),
    cause: read("cause"),
    operation: read("operation"),
    subject: read("subject"),
  };
}
