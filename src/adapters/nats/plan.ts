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
  readonly transport: "tcp" | "websocket";
  /** Whether a server without TLS is refused. */
  readonly tls: boolean;
  /** The files of the options. */
  readonly tlsFiles: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
  /** How to authenticate. */
  readonly login: Login;
}
