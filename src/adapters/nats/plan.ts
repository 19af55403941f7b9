import { ConfigValidationError } from "../../core/errors.ts";
import type { NatsStoreOptions } from "./options.ts";
import { type NatsTarget, parseNatsUrl } from "./url.ts";

/** How to authenticate: one way, or none. */
export type Login =
  | { readonly kind: "none" }
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "user"; readonly user: string; readonly password: string }
  | { readonly kind: "credentials"; readonly file: string }
  | { readonly kind: "nkey"; readonly file: string };

/** How to connect: the options, checked and complete. */
export interface ConnectionPlan {
  /** The servers, as nats.js dials them. */
  readonly servers: readonly string[];
  /** How to talk to them. */
  readonly transport: NatsTarget["transport"];
  /** Whether a server without TLS is refused. */
  readonly tls: boolean;
  /** The files of {@link NatsStoreOptions}. */
  readonly tlsFiles: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
  /** How to authenticate. */
  readonly login: Login;
}

const CONNECTING = [
  "url",
  "token",
  "user",
  "password",
  "credentialsFile",
  "nkeySeedFile",
  "tlsCaFile",
  "tlsCertFile",
  "tlsKeyFile",
] as const satisfies readonly (keyof NatsStoreOptions)[];

/**
 * What the options say about connecting, or `undefined` if a ready connection was handed in. No file is read.
 *
 * @throws {ConfigValidationError} if they contradict each other or something is missing.
 */
export function connectionPlan(options: NatsStoreOptions): ConnectionPlan | undefined {
  if (options.connection !== undefined) {
    const extra = CONNECTING.find((name) => options[name] !== undefined);
    if (extra === undefined) return undefined;
    throw invalid(`'connection' is a ready connection, so '${extra}' has no effect.`, extra, "absent", "present");
  }
  if (options.url === undefined) {
    throw invalid("A NATS store needs 'url', or a ready 'connection'.", "url", "a URL", "nothing");
  }
  const target = parseNatsUrl(options.url);
  return {
    servers: target.servers,
    transport: target.transport,
    tls: target.tls || options.tlsCaFile !== undefined || options.tlsCertFile !== undefined,
    tlsFiles: tlsFiles(options, target),
    login: login(options, target),
  };
}

function login(options: NatsStoreOptions, target: NatsTarget): Login {
  for (const [one, other] of [["user", "password"], ["password", "user"]] as const) {
    if (options[one] !== undefined && options[other] === undefined) {
      throw invalid(`'${one}' needs '${other}'.`, other, "a string", "nothing");
    }
  }
  const ways: { readonly from: string; readonly login: Login }[] = [];
  const add = (from: string, login: Login) => ways.push({ from, login });
  if (target.token !== undefined) add("url", { kind: "token", token: target.token });
  if (target.user !== undefined) add("url", { kind: "user", user: target.user, password: target.password ?? "" });
  if (options.token !== undefined) add("token", { kind: "token", token: options.token });
  if (options.user !== undefined) add("user", { kind: "user", user: options.user, password: options.password ?? "" });
  if (options.credentialsFile !== undefined) {
    add("credentialsFile", { kind: "credentials", file: options.credentialsFile });
  }
  if (options.nkeySeedFile !== undefined) add("nkeySeedFile", { kind: "nkey", file: options.nkeySeedFile });
  const [first, second] = ways;
  if (first !== undefined && second !== undefined) {
    throw invalid(
      `Both '${first.from}' and '${second.from}' hold credentials, and only one of them can count.`,
      second.from,
      `one way to authenticate`,
      ways.map(({ from }) => from).join(" and "),
    );
  }
  return first?.login ?? { kind: "none" };
}

function tlsFiles(options: NatsStoreOptions, target: NatsTarget): ConnectionPlan["tlsFiles"] {
  for (const [one, other] of [["tlsCertFile", "tlsKeyFile"], ["tlsKeyFile", "tlsCertFile"]] as const) {
    if (options[one] !== undefined && options[other] === undefined) {
      throw invalid(`'${one}' needs '${other}'.`, other, "the path of a PEM file", "nothing");
    }
  }
  const { tlsCaFile: caFile, tlsCertFile: certFile, tlsKeyFile: keyFile } = options;
  const given = (["tlsCaFile", "tlsCertFile"] as const).find((name) => options[name] !== undefined);
  if (given !== undefined && target.transport === "websocket") {
    throw invalid(
      `WebSockets take their certificates from the runtime, so '${given}' cannot be used with ws:// and wss://.`,
      given,
      "absent",
      "present",
    );
  }
  return {
    ...caFile === undefined ? {} : { caFile },
    ...certFile === undefined ? {} : { certFile },
    ...keyFile === undefined ? {} : { keyFile },
  };
}

function invalid(message: string, field: string, expected: string, received: string): ConfigValidationError {
  return new ConfigValidationError(message, { field, expected, received });
}
