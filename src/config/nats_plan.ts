import type { NatsStoreOptions } from "../adapters/nats/options.ts";
import type { ConnectionPlan, Login } from "../adapters/nats/plan.ts";
import { ConfigValidationError } from "../core/errors.ts";
import { type NatsTarget, parseNatsUrl } from "./nats_url.ts";

/**
 * What checked options say about connecting, or `undefined` if a ready connection was handed in. No file is read.
 * `nameOf`: the name of an option as its author wrote it.
 *
 * @throws {ConfigValidationError} if the URL cannot be used, or not together with the other options.
 */
export function connectionPlan(
  options: NatsStoreOptions,
  nameOf: (option: keyof NatsStoreOptions) => string = (option) => option,
): ConnectionPlan | undefined {
  if (options.url === undefined) return undefined;
  const { tlsCaFile: caFile, tlsCertFile: certFile, tlsKeyFile: keyFile } = options;
  const target = parseNatsUrl(options.url);
  const file = (["tlsCaFile", "tlsCertFile"] as const).find((option) => options[option] !== undefined);
  if (file !== undefined && target.transport === "websocket") {
    const field = nameOf(file);
    throw new ConfigValidationError(
      `WebSockets take their certificates from the runtime, so '${field}' cannot be used with ws:// and wss://.`,
      { field, expected: "absent", received: "present" },
    );
  }
  return {
    servers: target.servers,
    transport: target.transport,
    tls: target.tls || file !== undefined,
    tlsFiles: {
      ...caFile === undefined ? {} : { caFile },
      ...certFile === undefined ? {} : { certFile },
      ...keyFile === undefined ? {} : { keyFile },
    },
    login: loginOf(options, target),
  };
}

/** The login that was given, in the URL or as options. */
function loginOf(
  { token, user, password = "", credentialsFile, nkeySeedFile }: NatsStoreOptions,
  target: NatsTarget,
): Login {
  if (target.token !== undefined) return { kind: "token", token: target.token };
  if (target.user !== undefined) return { kind: "user", user: target.user, password: target.password ?? "" };
  if (token !== undefined) return { kind: "token", token };
  if (user !== undefined) return { kind: "user", user, password };
  if (credentialsFile !== undefined) return { kind: "credentials", file: credentialsFile };
  return nkeySeedFile === undefined ? { kind: "none" } : { kind: "nkey", file: nkeySeedFile };
}
