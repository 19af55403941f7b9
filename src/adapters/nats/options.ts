/**
 * A connection that the caller opened: any `NatsConnection` of `@nats-io/transport-deno`, `@nats-io/transport-node` or
 * `wsconnect`. Its own type is not named, because the caller's copy of it may differ from this package's.
 *
 * @example
 * ```ts
 * import { configureStore, type NatsConnectionLike } from "@ratesync/core";
 *
 * function share(connection: NatsConnectionLike): void {
 *   configureStore("nats", { engine: "nats", connection });
 * }
 * console.log(typeof share);
 * ```
 */
export interface NatsConnectionLike {
  /** Whether it was closed. */
  isClosed(): boolean;
  /** Settles when it is closed. */
  closed(): Promise<void | Error>;
  /** The server that it is connected to. */
  getServer(): string;
}

/**
 * Which JetStream Key-Value bucket holds the limits, and how to work with it.
 *
 * @example
 * ```ts
 * import type { NatsBucketOptions } from "@ratesync/core";
 *
 * const options: NatsBucketOptions = { bucketName: "limits", autoCreate: true, replicas: 3 };
 * console.log(options.bucketName);
 * ```
 */
export interface NatsBucketOptions {
  /**
   * The Key-Value bucket. All processes that share limits use the same one.
   *
   * @default {"rate_limits"}
   */
  readonly bucketName?: string | undefined;
  /**
   * The JetStream domain that the bucket is in, if the connection leads to a server of another one, such as a leaf node.
   *
   * @default {the domain of the server that the connection leads to}
   */
  readonly domain?: string | undefined;
  /**
   * How many buckets the keys are spread over, from 1 to 64, so that a cluster can share the load: each is a stream
   * with a leader of its own. The first has the name {@link NatsBucketOptions.bucketName}, and the others have `_1`,
   * `_2` and so on appended. A key is always in the same bucket. All processes that share limits use the same number; a
   * process with another number is refused with a `ConfigValidationError` when it opens the store.
   *
   * @default {1}
   */
  readonly partitions?: number | undefined;
  /**
   * Whether to create the bucket if it does not exist. An existing one is used as it is.
   *
   * @default {false}
   */
  readonly autoCreate?: boolean | undefined;
  /**
   * How many servers of a cluster keep a bucket that is created here, from 1 to 5. More than 1 needs nats-server 2.9.21
   * or later: older ones break compare-and-set on replicated buckets.
   *
   * @default {1}
   */
  readonly replicas?: number | undefined;
  /**
   * Where a bucket that is created here is kept.
   *
   * @default {"file"}
   */
  readonly storage?: "file" | "memory" | undefined;
  /**
   * How many milliseconds a bucket that is created here remembers a key that is not written: at least 100, at most 100
   * years; 0: for ever.
   *
   * @default {86_400_000}
   */
  readonly bucketTtlMs?: number | undefined;
  /**
   * The longest pause between two tries of a compare-and-set that lost its race, in milliseconds.
   *
   * @default {50}
   */
  readonly retryIntervalMs?: number | undefined;
  /**
   * How many lost races in a row fail a request that has a timeout.
   *
   * @default {100}
   */
  readonly maxRetries?: number | undefined;
  /**
   * How many milliseconds after its slot a caller may start before the slot counts as missed; less than 2 counts as 2,
   * because no timer keeps to less. With `clock: "local"` also the allowance for hosts whose clocks disagree.
   *
   * @default {10}
   */
  readonly timingMarginMs?: number | undefined;
  /**
   * How long the server may take to answer, in milliseconds, before that counts as a failure.
   *
   * @default {2_000}
   */
  readonly backendTimeoutMs?: number | undefined;
  /**
   * Whose time counts: the server's, or this host's. With `local`, all hosts must agree on the time.
   *
   * @default {"server"}
   */
  readonly clock?: "server" | "local" | undefined;
}

/**
 * How to authenticate: with a token, a user, a `.creds` file or an NKey, or not at all. Give only one of them, and none
 * if the `url` contains credentials.
 *
 * @example
 * ```ts
 * import type { NatsLoginOptions } from "@ratesync/core";
 *
 * const login: NatsLoginOptions = { user: "ratesync", password: "secret" };
 * console.log(login.user);
 * ```
 */
export type NatsLoginOptions =
  | {
    /** The token to authenticate with. */
    readonly token?: string | undefined;
    /** Another way than `token`. */
    readonly user?: undefined;
    /** Another way than `token`. */
    readonly password?: undefined;
    /** Another way than `token`. */
    readonly credentialsFile?: undefined;
    /** Another way than `token`. */
    readonly nkeySeedFile?: undefined;
  }
  | {
    /** The user to authenticate as. */
    readonly user: string | undefined;
    /** The password of `user`. */
    readonly password: string | undefined;
    /** Another way than `user` and `password`. */
    readonly token?: undefined;
    /** Another way than `user` and `password`. */
    readonly credentialsFile?: undefined;
    /** Another way than `user` and `password`. */
    readonly nkeySeedFile?: undefined;
  }
  | {
    /** The path of a `.creds` file (user JWT and NKey seed). */
    readonly credentialsFile?: string | undefined;
    /** Another way than `credentialsFile`. */
    readonly token?: undefined;
    /** Another way than `credentialsFile`. */
    readonly user?: undefined;
    /** Another way than `credentialsFile`. */
    readonly password?: undefined;
    /** Another way than `credentialsFile`. */
    readonly nkeySeedFile?: undefined;
  }
  | {
    /** The path of a file with an NKey seed (`SU…`). */
    readonly nkeySeedFile?: string | undefined;
    /** Another way than `nkeySeedFile`. */
    readonly token?: undefined;
    /** Another way than `nkeySeedFile`. */
    readonly user?: undefined;
    /** Another way than `nkeySeedFile`. */
    readonly password?: undefined;
    /** Another way than `nkeySeedFile`. */
    readonly credentialsFile?: undefined;
  };

/**
 * Files for TLS. The client's certificate and its key go together.
 *
 * @example
 * ```ts
 * import type { NatsTlsOptions } from "@ratesync/core";
 *
 * const tls: NatsTlsOptions = { tlsCaFile: "/etc/ssl/nats-ca.pem" };
 * console.log(tls.tlsCaFile);
 * ```
 */
export type NatsTlsOptions =
  & {
    /** The path of a PEM file with the certificate authorities to trust. */
    readonly tlsCaFile?: string | undefined;
  }
  & (
    | {
      /** The path of a PEM file with the client's certificate. */
      readonly tlsCertFile: string | undefined;
      /** The path of a PEM file with the client's private key. */
      readonly tlsKeyFile: string | undefined;
    }
    | {
      /** Goes with `tlsKeyFile`. */
      readonly tlsCertFile?: undefined;
      /** Goes with `tlsCertFile`. */
      readonly tlsKeyFile?: undefined;
    }
  );

/**
 * Where the server is, and how to connect to it.
 *
 * @example
 * ```ts
 * import type { NatsServerOptions } from "@ratesync/core";
 *
 * const server: NatsServerOptions = { url: "tls://nats.example.com:4222", token: "…" };
 * console.log(server.url);
 * ```
 */
export type NatsServerOptions =
  & {
    /**
     * One URL, or several of the same cluster separated by commas: `nats://`, `tls://`, `ws://` or `wss://`, with or
     * without `user:password@` or `token@`, in which `%`, `/`, `?`, `#` and `,` are percent-encoded. Credentials may
     * also be given as options, but only in one of these places.
     */
    readonly url: string;
    /** Takes the place of `url`. */
    readonly connection?: undefined;
  }
  & NatsLoginOptions
  & NatsTlsOptions;

/**
 * A connection that the caller has opened and will close. No other option about connecting can then be given.
 *
 * @example
 * ```ts
 * import type { NatsConnectionLike, NatsConnectionOptions } from "@ratesync/core";
 *
 * const given = (connection: NatsConnectionLike): NatsConnectionOptions => ({ connection });
 * console.log(typeof given);
 * ```
 */
export interface NatsConnectionOptions {
  /** The connection. */
  readonly connection: NatsConnectionLike;
  /** The connection is there already. */
  readonly url?: undefined;
  /** The connection has a login already. */
  readonly token?: undefined;
  /** The connection has a login already. */
  readonly user?: undefined;
  /** The connection has a login already. */
  readonly password?: undefined;
  /** The connection has a login already. */
  readonly credentialsFile?: undefined;
  /** The connection has a login already. */
  readonly nkeySeedFile?: undefined;
  /** The connection is there already. */
  readonly tlsCaFile?: undefined;
  /** The connection is there already. */
  readonly tlsCertFile?: undefined;
  /** The connection is there already. */
  readonly tlsKeyFile?: undefined;
}

/**
 * How to reach a NATS server, by its `url` or with an existing `connection`, and which JetStream Key-Value bucket on it
 * holds the limits. In TOML, the names are the same in snake_case, and durations are in seconds.
 *
 * @example
 * ```ts
 * import type { NatsStoreOptions } from "@ratesync/core";
 *
 * const options: NatsStoreOptions = { url: "tls://nats.example.com:4222", token: "…", autoCreate: true };
 * console.log(options.url);
 * ```
 */
export type NatsStoreOptions = NatsBucketOptions & (NatsConnectionOptions | NatsServerOptions);
