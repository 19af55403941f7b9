import { nkeys } from "@nats-io/nats-core";
import { Buffer } from "node:buffer";

/** A server configuration that accepts one user, and the `.creds` file of that user. */
export interface CredentialsSetup {
  readonly config: string;
  readonly creds: string;
}

type Signer = ReturnType<typeof nkeys.createUser>;

/** A JWT as NATS signs it: with the issuer's NKey. */
function sign(issuer: Signer, subject: Signer, name: string, nats: Record<string, unknown>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    jti: name.toUpperCase(),
    iat: 1_700_000_000,
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name,
    nats: { ...nats, version: 2 },
  };
  const text = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(new TextEncoder().encode(text))).toString("base64url")}`;
}

/** Makes an operator, an account with JetStream and a user, offline. */
export function makeCredentials(): CredentialsSetup {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()];
  const unlimited = { subs: -1, data: -1, payload: -1 };
  const limits = { ...unlimited, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const jetStream = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const operatorJwt = sign(operator, operator, "operator", { type: "operator" });
  const accountJwt = sign(operator, account, "account", { type: "account", limits: { ...limits, ...jetStream } });
  // JetStream does not start without a system account
  const system = nkeys.createAccount();
  const systemJwt = sign(operator, system, "system", { type: "account", limits });
  const userJwt = sign(account, user, "user", { type: "user", ...unlimited });
  const seed = new TextDecoder().decode(user.getSeed());
  return {
    config: `operator: ${operatorJwt}\nsystem_account: ${system.getPublicKey()}\nresolver: MEMORY\n` +
      `resolver_preload: { ${account.getPublicKey()}: ${accountJwt}, ${system.getPublicKey()}: ${systemJwt} }\n`,
    creds: `-----BEGIN NATS USER JWT-----\n${userJwt}\n------END NATS USER JWT------\n\n` +
      `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
  };
}
