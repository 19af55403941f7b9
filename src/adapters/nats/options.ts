/**
 * A connection that the caller opened: any `NatsConnection` of `@nats-io/transport-deno`, `@nats-io/transport-node` or
 * `wsconnect`. Its own type is not named, as the caller's copy of it may be another one than this package's.
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
 * How to reach a NATS server, and which JetStream Key-Value bucket on it holds the limits. In TOML the names are the
 * same in snake_case, and durations are in seconds.
 *
 * @example
 * ```ts
 * import type { NatsStoreOptions } from "@ratesync/core";
 *
 * const options: NatsStoreOptions = { url: "tls://nats.example.com:4222", token: "…", autoCreate: true };
 * console.log(options.url);
 * ```
 */
export interface NatsStoreOptions {
  /**
   * One URL, or several of the same cluster with commas between: `nats://`, `tls://`, `ws://` or `wss://`, with or without
   * `user:password@` or `token@`, in which `%`, `/`, `?`, `#` and `,` are percent-encoded. Credentials may also be given as
   * the options below, but only in one of these places. Needed unless `connection` is given.
   */
  readonly url?: string | undefined;
  /** A connection that the caller has opened and will close. Then `url` and everything about connecting must be absent. */
  readonly connection?: NatsConnectionLike | undefined;
  /** The token to authenticate with. */
  readonly token?: string | undefined;
  /** The user to authenticate as; goes with `password`. */
  readonly user?: string | undefined;
  /** The password of `user`. */
  readonly password?: string | undefined;
  /** The path of a `.creds` file (user JWT and NKey seed). */
  readonly credentialsFile?: string | undefined;
  /** The path of a file with an NKey seed (`SU…`). */
  readonly nkeySeedFile?: string | undefined;
  /** The path of a PEM file with the certificate authorities to trust. */
  readonly tlsCaFile?: string | undefined;
  /** The path of a PEM file with the client's certificate; goes with `tlsKeyFile`. */
  readonly tlsCertFile?: string | undefined;
  /** The path of a PEM file with the client's private key. */
  readonly tlsKeyFile?: string | undefined;
  /**
   * The Key-Value bucket. All processes that share limits use the same one.
   *
   * @default {"rate_limits"}
   */
  readonly bucketName?: string | undefined;
  /**
   * Whether to create the bucket if it does not exist. An existing one is used as it is.
   *
   * @default {false}
   */
  readonly autoCreate?: boolean | undefined;
  /**
   * On how many servers of a cluster a bucket that is created here is kept, from 1 to 5. More than 1 needs nats-server
   * 2.9.21 or later: older ones break compare-and-set on replicated buckets.
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
   * After how many milliseconds without a write a bucket that is created here forgets a key.
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
   * How many lost races in a row end a request that has a timeout.
   *
   * @default {100}
   */
  readonly maxRetries?: number | undefined;
  /**
   * By how many milliseconds a caller may start after its slot before the slot counts as missed; with `clock: "local"`
   * also the allowance for hosts whose clocks disagree.
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
   * Whose time counts: the server's, or this host's. With `local` all hosts must agree about the time.
   *
   * @default {"server"}
   */
  readonly clock?: "server" | "local" | undefined;
}
