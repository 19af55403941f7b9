import {
  type Authenticator,
  type ConnectionOptions,
  credsAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
  wsconnect,
} from "@nats-io/nats-core";
import { ConfigValidationError } from "../../core/errors.ts";
import type { ConnectionPlan, Login } from "./plan.ts";

/**
 * Connects to one of the servers of `plan`, for this store. Reads the files that it names, and throws what nats.js
 * throws.
 *
 * @throws {ConfigValidationError} if one of the files cannot be used, or this runtime has no WebSocket for `ws://` and
 * `wss://`.
 */
export async function connectNats(plan: ConnectionPlan, store: string, timeoutMs: number): Promise<NatsConnection> {
  const options: ConnectionOptions = {
    servers: [...plan.servers],
    name: "ratesync",
    // a limiter must come back by itself, however long the server was away
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    ignoreAuthErrorAbort: true,
    pingInterval: 2_000,
    // a server that does not answer must leave time for the others in the list
    timeout: Math.max(1, Math.floor(timeoutMs / plan.servers.length)),
    noAsyncTraces: true,
    ...await inStore(store, authentication(plan.login)),
    ...await inStore(store, encryption(plan)),
  };
  if (plan.transport === "websocket" && !("WebSocket" in globalThis)) throw withoutWebSocket(store);
  const connection = await dial(plan, options);
  addMissing(plan.servers, connection);
  return connection;
}

async function dial(plan: ConnectionPlan, options: ConnectionOptions): Promise<NatsConnection> {
  if (plan.transport === "websocket") return await wsconnect(options).catch(hideQueries);
  // The specifiers are literals, so that bundlers and JSR see them; no runtime loads the other's transport. Deno cannot
  // present a client certificate on a connection that is already open.
  if ("Deno" in globalThis && plan.tlsFiles.certFile === undefined) {
    const { connect } = await import("./deno_transport.ts");
    return await connect(options);
  }
  const [{ connect }, { NodeTransport }] = await Promise.all([
    import("@nats-io/transport-node"),
    import("@nats-io/transport-node/lib/node_transport.js"),
  ]);
  closeSilentSockets(NodeTransport.prototype);
  return await connect(options);
}

function withoutWebSocket(store: string): ConfigValidationError {
  return new ConfigValidationError(
    `Store '${store}': this runtime has no WebSocket, which ws:// and wss:// take. Use nats:// or tls://, or a newer runtime ` +
      "(Node from 22 on)",
    { field: `stores.${store}.url`, expected: "a URL with nats:// or tls://", received: "one with ws:// or wss://" },
  );
}

/** What nats.js (3.4.0) has beyond its types. */
interface Inside {
  readonly protocol?: { readonly servers?: { addServer?(url: string): void } };
}

/**
 * nats.js forgets the servers that were down when it connected to another one in the list, unless that one knows them.
 * They may be back when they are needed. `setServers()` would also keep servers announced by the cluster that have left
 * it since.
 */
function addMissing(servers: readonly string[], connection: NatsConnection): void {
  const known = connection.getServers().map(({ src }) => src);
  const pool = (connection as Inside).protocol?.servers;
  for (const server of servers) if (!known.includes(server)) pool?.addServer?.(server);
}

/** Bun quotes the whole URL of a WebSocket, where what follows the host may be a secret. */
function hideQueries(error: unknown): never {
  if (!(error instanceof Error)) throw error;
  const message = error.message.replace(/(wss?:\/\/[^\s'"?#]*)[?#][^\s'"]*/g, "$1?***");
  throw Object.assign(new Error(message), { name: error.name });
}

/** Adds the store to an error about a file. */
async function inStore<T>(store: string, options: Promise<T>): Promise<T> {
  try {
    return await options;
  } catch (error) {
    if (!(error instanceof ConfigValidationError)) throw error;
    const { problem, field, expected, received } = error;
    const mismatch = { field: `stores.${store}.${field}`, expected, received };
    throw new ConfigValidationError(`Store '${store}': ${problem}`, mismatch);
  }
}

/** What is used of a transport of `@nats-io/transport-node`. */
interface ClosableTransport {
  /** Whether the server has said who it is. */
  readonly connected: boolean;
  /** Destroys its socket. */
  discard(): void;
  close(error?: Error): Promise<void>;
}

const mended = new WeakSet<ClosableTransport>();

/**
 * The transports of nats.js (3.4.0) leave a socket open if they are closed before the server has said who it is, which
 * a frozen server never does: each try would leave a socket behind, and no program would end.
 */
function closeSilentSockets(prototype: ClosableTransport): void {
  if (mended.has(prototype)) return;
  mended.add(prototype);
  const { close } = prototype;
  prototype.close = function (error) {
    if (!this.connected) this.discard();
    return close.call(this, error);
  };
}

async function encryption(plan: ConnectionPlan): Promise<Pick<ConnectionOptions, "tls">> {
  const { caFile, certFile, keyFile } = plan.tlsFiles;
  for (const [field, path] of [["tlsCaFile", caFile], ["tlsCertFile", certFile], ["tlsKeyFile", keyFile]] as const) {
    if (path !== undefined && !(await readText(field, path)).includes("-----BEGIN ")) {
      throw unusable(field, path, "holds no PEM block", "a PEM file");
    }
  }
  return plan.transport === "tcp" && plan.tls ? { tls: plan.tlsFiles } : {};
}

async function authentication(login: Login): Promise<ConnectionOptions> {
  switch (login.kind) {
    case "none":
      return {};
    case "token":
      return { token: login.token };
    case "user":
      return { user: login.user, pass: login.password };
    case "credentials":
      return {
        authenticator: await fromFile(
          "credentialsFile",
          login.file,
          inCredentials,
          "a .creds file (JWT and NKey seed)",
        ),
      };
    case "nkey":
      return {
        authenticator: await fromFile("nkeySeedFile", login.file, inSeed, "a file with an NKey user seed (SU…)"),
      };
  }
}

function inCredentials(text: string): Authenticator {
  return credsAuthenticator(new TextEncoder().encode(text.replaceAll("\r\n", "\n")));
}

function inSeed(text: string): Authenticator {
  const seed = /^\s*(SU[A-Z2-7]+)\s*$/m.exec(text)?.[1] ?? "";
  return nkeyAuthenticator(new TextEncoder().encode(seed));
}

/**
 * Signs at each login with what the file contains then, because credentials that expire are renewed there. If it can no
 * longer be read, the last ones are used.
 */
async function fromFile(
  field: string,
  path: string,
  inText: (text: string) => Authenticator,
  expected: string,
): Promise<Authenticator> {
  let last = inText(await readText(field, path));
  try {
    // A trial: nats.js would report a seed that cannot sign as a closed connection.
    last("nonce");
  } catch {
    // without the cause: it may quote what it could not read
    throw unusable(field, path, "holds no credentials that can be read", expected);
  }
  const { readFileSync, statSync } = await import("node:fs");
  return (nonce) => {
    try {
      // A pipe has its content only once: reading it would block the process until somebody writes again.
      if (!statSync(path).isFile()) return last(nonce);
      const renewed = inText(readFileSync(path, "utf8"));
      const signed = renewed(nonce);
      last = renewed;
      return signed;
    } catch {
      return last(nonce);
    }
  };
}

async function readText(field: string, path: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const why = code === "ENOENT" ? "does not exist" : code === "EISDIR" ? "is a directory" : "cannot be read";
    throw unusable(field, path, why, "a file that can be read");
  }
}

function unusable(field: string, path: string, why: string, expected: string): ConfigValidationError {
  return new ConfigValidationError(`The file '${path}' ${why}.`, { field, expected, received: path });
}
