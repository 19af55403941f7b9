/** What a user may rely on, in one sentence; or why no test can show it. */
export type Criterion = string | { readonly says: string; readonly needsNoTest: string };

/**
 * The criteria that this package is measured by. A criterion's number is its place in its group, from 1 on: the first of `TB`
 * is `TB-1`. Most come from rate-sync, the Python library with the same names and the same configuration file.
 */
export const CRITERIA = {
  /** The configuration file. */
  CFG: [
    "The file is $RATE_SYNC_CONFIG, else ./rate-sync.toml, else ./config/rate-sync.toml; the first that exists, alone.",
    "A $RATE_SYNC_CONFIG that names a missing file is warned about, and the search goes on.",
    "Importing reads nothing; what is wrong with the file shows at the first use or at loadConfig(), with its path.",
    "Without a file, configuration in code works.",
    "A missing file and one that is not TOML are ConfigValidationErrors that name it.",
    "The tables are [stores.<id>], [limiters.<id>], [http] and [fastapi]; another one is an error with the nearest name.",
    "Each of them must be a table.",
    "A store needs an engine.",
    "An unknown engine is an error that lists the known ones.",
    "An unknown key of a store or a limiter is an error that names it.",
    "A limiter names a store of the same file, or one that was configured before.",
    "A limiter in a file needs a store.",
    "What is wrong with a limiter is said with its field and the reason.",
    "A file counts as a whole or not at all.",
    "A second file adds to the first and overrides it; code and file can be mixed.",
    "Every documented key takes effect, fail_closed included.",
    "A value of a wrong type is an error with field, expected and received.",
    "A limiter's defaults: token_bucket, nothing limited or timed, fail open.",
    "A low rate is no reason for a warning.",
    "${VAR}, $VAR and ${VAR:-default} work in values, arrays and the names of tables, at any depth.",
    "Several references may stand in one text.",
    "A default may hold `:-` and further references.",
    "A variable that is not set and has no default is an error with its name and the field.",
    "An empty default gives an empty text.",
    "A variable that is empty counts as not set, as in a shell.",
    "A text becomes a number because its option is one, and never because it looks like one.",
    "A number or a boolean may be given as text.",
    "Two tables whose names become the same are an error.",
    "$$ is a $.",
    "trusted_proxy_networks is a list, or unset.",
    "Networks are checked when the file is loaded.",
  ],
  /** Stores. */
  STO: [
    "configureStore() names a store; an unknown engine and a missing option are errors.",
    "Many limiters share one store.",
    "The engine memory takes no options; those of nats have rate-sync's names and defaults.",
    "listStores() says of each store its engine, every option, and whether it is open.",
    "Neither a list nor a log shows a secret.",
    "A connection that is open already can be handed in; the caller closes it.",
    "A store has one connection.",
    "The same id again with the same options is nothing new; with others it needs `replace`.",
  ],
  /** Limiters and the registry. */
  LIM: [
    "A limiter on an unknown store is an error.",
    "A limiter without a limit, half a window, and limits that are not above 0 are errors that say so.",
    "Very small and fractional rates are valid and read back unchanged.",
    "A rate and a window of the two algorithms together are an error.",
    "A limit of concurrency can go with a sliding window.",
    "An unknown algorithm is an error.",
    "The same id again with the same options is nothing new; with others it needs `replace`.",
    "getLimiter() gives the same object each time, opened or not, and an error for an unknown id.",
    "The first use opens a limiter; initializeLimiter() and initializeAllLimiters() do it early, again and again if you like.",
    "Concurrent first uses open once.",
    "A limiter that is used directly before it was opened is opened.",
    "acquire() resolves to a permit, and `await using` releases it whatever happens; each one nested holds one more.",
    "The timeout of acquire() is its own, else the limiter's, else none; 0 is one attempt. Errors come with the promise.",
    "limiter.acquire() honours the limiter's timeout too; limiter.tryAcquire() does not wait by default.",
    "listLimiters() says of each limiter its configuration, whether it is open, and its metrics once it was used.",
    "Limiters with different ids have nothing in common; the same id on the same store shares its state.",
    "Nothing in the process grows with the number of keys, and forgetting a key does not lose its limit.",
    "close() closes what was opened here, once; the next use opens it again.",
  ],
  /** Rates. */
  TB: [
    "The first acquisition is immediate, the next an interval later.",
    "At 1/s tryAcquire() is allowed and then refused; neither is an exception.",
    "tryAcquire() with a timeout waits for a slot within it.",
    "Rates from 0.5/s to 1000/s hold.",
    "Under demand the rate is reached to 98 %, and never exceeded in any window.",
    "The next slot is an interval after the last one, whatever the caller did in between.",
    "A slot that is served late is not lost.",
    "`burst` may come at once after a pause, 1 by default.",
    "Who waits is served in order of arrival: in a process exactly, between processes about.",
    "Without a timeout acquire() waits as long as it takes, whatever races are lost.",
    "The cost does not grow with the number of those who wait.",
    "All processes go by one clock, and one that is set admits nothing extra.",
    "Processes with other rules for the same limiter are warned, and share one state.",
    "No margin is taken off an interval: 50/s is 50/s and 200/s is 200/s.",
  ],
  /** Concurrency. */
  CON: [
    "At most maxConcurrent hold a permit at any moment, over all processes.",
    "release() frees one, and who waits for it is woken.",
    "release() without a limit of concurrency does nothing.",
    "A scope releases at its end and on an exception.",
    "A release frees the caller's own permit, once.",
    "The permits of a process that died come back within the lease, and living holders keep theirs.",
    "However long a permit is held, it is held.",
    "Cancellations and timeouts leak nothing.",
    "A release gets through contention and outages, and does not block.",
    "maxConcurrent = 1 with timeout 0 is an exclusive task.",
    "Who waits in a process is served in order of arrival.",
  ],
  /** Sliding windows. */
  SW: [
    "Exactly `limit` in any window; entries age out one by one.",
    "acquire() waits for the oldest entry, and tryAcquire() with a timeout too.",
    "limit, windowMs and the algorithm sliding_window read back.",
    "A limit without a window, a window without a limit, zero and less are errors that name them.",
    "It works on NATS.",
    "With maxConcurrent both hold.",
  ],
  /** Limits together. */
  CMB: [
    "All limits of a limiter hold at every start.",
    "Who is refused by one limit uses up nothing of the others.",
    "Who gives up waiting for a permit gives the rest back.",
    "10 tasks at 100/s and 3 at once: never more than 3.",
  ],
  /** Timeouts and cancellation. */
  TMO: [
    "Timeout 0 is one attempt and no waiting.",
    "In an outage a caller is answered within a time that is configured.",
    "A timeout that is negative or no number is an error.",
    "tryAcquire() with an infinite timeout waits as long as it takes.",
    "A failure by timeout adds 1 to `timeouts` and changes no other sum.",
    "A caller whose wait cannot succeed in time is told at once.",
    "A signal is taken wherever a timeout is, and an abort leaves no slot, permit or timer behind.",
  ],
  /** Metrics. */
  MET: [
    "There are rate-sync's metrics and more, all zero or null at first.",
    "Each grant counts in totalAcquisitions; the average wait is the sum by the count, the maximum is no less.",
    "currentConcurrent is what this process holds, never below 0; only permits of a concurrency limit count as released.",
    "maxConcurrentReached counts once for each request that met a full limiter.",
    "Each refusal counts in timeouts. Every limiter and every key has its own metrics, before it is opened too.",
    "getMetrics() is a snapshot.",
    "What was granted while the store was down has a counter of its own.",
    "tryAcquire() without a timeout records no wait.",
  ],
  /** State and configuration. */
  STA: [
    "getConfig() works at any time: frozen, equal each time, with rate-sync's fields.",
    "Its storeId is the id that the store was configured with.",
    "On NATS it works as well.",
    "getState() consumes nothing.",
    "Of a sliding window it says what was used and what is left.",
    "Of permits it says how many are held; of several limits the least that is left and the most that is used.",
    "allowed means that a request now would be granted.",
    "resetAt is never in the past.",
    "On NATS it speaks of all processes.",
    "The first getState() opens the limiter.",
    "Concurrent getState() calls are safe.",
  ],
  /** Clones and keys. */
  CLN: [
    "cloneLimiter() copies the configuration, applies overrides, and shares no state.",
    "An unknown source and a target that exists are errors.",
    "An override of null takes a value away.",
    "getOrCloneLimiter() gives an open limiter `base:key`, the same one each time, with its own state and metrics.",
    "Any text is a key on every store.",
    "A limiter can be cloned after it was used.",
    "No two pairs of base and key meet.",
  ],
  /** Checks. */
  CHK: [
    "A result says allowed, limit, remaining, when it resets and when to retry, and which limiter said so; it is immutable.",
    "checkLimiter() takes one slot without waiting; an unknown id is an error.",
    "consume: false takes nothing.",
    "limit, remaining, resetInMs and retryAfterMs are true.",
    "checkMultiLimiters(): all must allow; the least is left; the first that refuses is named; no limiter at all allows.",
    "It takes from all or from none, once each, and what was taken can be released.",
    'An unknown limiter is an error unless onMissing is "allow".',
  ],
  /** Composite limiters. */
  CMP: [
    "A composite needs a limiter, and a strategy that exists; most_restrictive by default.",
    "check() needs exactly one identifier for each limiter, and asks the limiter of that key.",
    "The result has those of all limiters, the most restrictive one and what triggered a refusal; it is immutable.",
    "most_restrictive and all_must_pass want all, any_must_pass wants one.",
    "Who is denied uses up nothing, and any_must_pass takes from one.",
    "Without a timeout each limiter's own counts.",
    "Permits are the caller's, to be released together.",
    "limit and remaining are those of the state.",
  ],
  /** Limited functions. */
  DEC: [
    "rateLimited() passes results and exceptions on, and releases on both.",
    "The timeout is the option's, else the limiter's, else none.",
    "Mode wait throws, mode try gives null; a wrong mode, and try without a timeout, are refused at once.",
    "Mode try gives null for its own refusal alone.",
    "The first call opens the limiter.",
    'An unknown limiter is an error unless onMissing is "run".',
    "A template takes its values from the arguments of the call; one that is missing is named.",
    "The error of an unknown base is one clear sentence.",
    "Placeholders may be paths; null and undefined are no values.",
    "Values come from a single object argument or from `key`; a function may choose the limiter, and its errors pass.",
    "What cannot be limited is refused; the name and the type of the function stay.",
  ],
  /** Identifiers. */
  IDN: [
    "hashIdentifier() gives what rate-sync gives.",
    "A shorter hash is the start of a longer one, and none is longer than the digest.",
    "An unknown algorithm and a length below 1 are errors.",
    "combineIdentifiers() leaves out null, undefined and the empty text, and keeps 0 and false.",
    "The separator is not escaped.",
  ],
  /** What helps testing. */
  TST: [
    "resetLimiter() puts a limiter back to its start, by itself or by its id, and leaves others alone.",
    "resetAllLimiters() does it for all, also when one fails.",
    "resetBackendStore() empties a store; an unknown one is an error with the known ones.",
    "Who waits or holds during a reset is served or released as always.",
    "There is a virtual clock.",
  ],
  /** Errors. */
  ERR: [
    "One base class catches everything that is thrown on purpose.",
    "A failed acquisition says limiter, timeout, time waited, when to retry, and which limit refused.",
    {
      says: "A limiter that was not initialized says so.",
      needsNoTest: "The first use initializes a limiter (LIM-11, STA-10), so nobody can meet this error.",
    },
    "A backend failure of a limiter that fails closed says so, with its cause.",
    "No error of a driver comes through as it is.",
  ],
  /** Backend failures. */
  FAIL: [
    "Fail open: warn and allow, everywhere. Fail closed: an error, everywhere.",
    "It holds with a NATS server that was killed or frozen, in a bounded time.",
    "A degraded limiter recovers by itself.",
    'on_failure = "local" keeps the limit within the process.',
    "A backend's timeout is a failure, and a caller's is not.",
  ],
  /** The NATS adapter. */
  NATS: [
    "Two processes at 1/s are an interval apart, and the bucket is created with history 1 and a TTL of 24 h.",
    "auto_create creates the bucket or uses the one that is there; without it a missing one is a clear error.",
    "Tokens, users, files with credentials, TLS and lists of URLs work.",
    "nats-server 2.9.10 and 2.15.1 work.",
    "A bucket's TTL never shortens a limit.",
    "An empty id is an error; whatever else it holds, an id is a valid key.",
    "The bucket is rate_limits by default, and no key of ours is one of rate-sync's.",
    "The keys of idle identifiers go, without affecting live limits.",
    "State, configuration, windows and reset work on NATS.",
  ],
  /** Logging. */
  LOG: [
    "debug: grants and waits; info: configuration and opening; warn: what needs attention; error: what does not work. " +
    "Silent below warn by default.",
    "Nothing that may identify a person is logged at info or above.",
  ],
} as const satisfies Readonly<Record<string, readonly Criterion[]>>;

/** Groups that are not built yet, with the number of their criteria. They may have tests, and need none. */
export const LATER: Readonly<Record<string, number>> = {
  /** Limits for HTTP servers. */
  HTTP: 14,
  /** Instruments for OpenTelemetry and Prometheus. */
  PROM: 5,
};
