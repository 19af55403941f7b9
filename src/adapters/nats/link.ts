import type { NatsConnection, Status } from "@nats-io/nats-core";
import { StoreUnavailableError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import { type Circumstances, mayChange, toStoreError } from "./errors.ts";
import { createRequests, type Question } from "./requests.ts";

/**
 * A connection as the modules of this folder use it: every request is bounded, and fails with a
 * `StoreUnavailableError`.
 */
export interface Link {
  readonly connection: NatsConnection;
  /** What errors say about where a failure happened. */
  readonly at: Omit<Circumstances, "doing">;
  /** The same connection, for requests about this bucket: their errors name it. */
  about(bucket: string): Link;
  /**
   * Asks and waits for the answer, for at most `timeoutMs`, by default `backendTimeoutMs`. If the connection is being
   * restored, it waits for that first; a request that was on its way when the connection broke fails at once.
   */
  request<T>(doing: Circumstances["doing"], question: Question<T>, timeoutMs?: number): Promise<T>;
  /**
   * Asks the JetStream API for `what`, such as `STREAM.INFO.KV_rate_limits`. Its errors are thrown, except the one with
   * the code `but`, which becomes `undefined`.
   */
  ask(doing: Circumstances["doing"], what: string, payload?: unknown, but?: number): Promise<Answer | undefined>;
  /** Where to publish so that a stream with this subject takes it, in whichever domain it is. */
  published(subject: string): string;
  /** How often the connection was lost. */
  readonly losses: number;
  /** What is wrong with the connection at this moment, in a sentence; `undefined` if nothing is. */
  readonly problem: string | undefined;
  /** Calls back after every reconnect. */
  onReconnect(callback: () => void): void;
  /** Stops watching the connection, which stays open. */
  release(): void;
}

/** An object that came over the wire: nothing about it is known until it is checked. */
export type Answer = Readonly<Record<string, unknown>>;

/** Watches `connection`, and sends requests over it. `isOwn`: it was opened here, and so reconnects for ever. */
export function createLink(
  connection: NatsConnection,
  whole: Omit<Circumstances, "doing">,
  logger: Logger,
  isOwn: boolean,
): Link {
  let up = !connection.isClosed();
  /** Why the last try to reconnect failed, if the server has said so. */
  let reason: string | undefined;
  let released = false;
  let losses = 0;
  const waiting = new Set<() => void>();
  // Where the domain is, the server takes `$JS.hub.API.STREAM.…` and `$JS.hub.API.$KV.…` for `$JS.API.STREAM.…` and
  // `$KV.…`, and only then looks at permissions (nats-server's generateJSMappingTable).
  const { domain } = whole;
  const api = domain === undefined ? "$JS.API" : `$JS.${domain}.API`;
  const published: Link["published"] = (subject) => domain === undefined ? subject : `${api}.${subject}`;
  const requests = createRequests(connection);
  const lose = () => requests.fail(new Error("connection disconnected"));
  const reconnected: (() => void)[] = [];
  const goOn = () => {
    const all = [...waiting];
    waiting.clear();
    for (const callback of all) callback();
  };

  const statuses = connection.status();
  void (async () => {
    for await (const status of statuses) observe(status);
  })().catch(() => {});

  function observe(status: Status): void {
    switch (status.type) {
      // Some transports report this at every try that fails, and others once for each failed try when one has
      // succeeded.
      case "disconnect":
        if (!up) return;
        up = false;
        losses++;
        logger.warn(`Store '${whole.store}': lost the connection to ${whole.server}; ${isOwn ? AGAIN : HANDED_IN}`);
        return lose();
      case "reconnect":
        if (up) return;
        up = true;
        reason = undefined;
        logger.warn(`Store '${whole.store}': connected to ${connection.getServer()} again`);
        goOn();
        return reconnected.forEach((callback) => callback());
      case "staleConnection":
        return logger.warn(`Store '${whole.store}': ${whole.server} stopped answering; reconnecting`);
      case "close":
        up = false;
        logger.error(
          `Store '${whole.store}': the connection to ${whole.server} was closed, and is not tried again. Configure the store ` +
            `with an open one, with replace: true.`,
        );
        goOn();
        return lose();
      case "error":
        // a missing permission fails the request that needed it; hints are optional
        if (status.error.name === "PermissionViolationError") {
          const { subject } = status.error as { readonly subject?: string }; // as its name says
          if (subject !== undefined) {
            requests.fail(status.error, subject);
            if (domain !== undefined) requests.fail(status.error, `${api}.${subject.replace(/^\$JS\.API\./, "")}`);
          }
          return logger.debug?.(`Store '${whole.store}': ${status.error.message}`);
        }
        return explain(toStoreError(status.error, { ...whole, doing: "connect" }).message);
    }
  }

  /** Logs each reason once: a connection that is retried fails for the same reason again and again. */
  function explain(message: string): void {
    const words = message.replace(`Store '${whole.store}': `, "");
    if (words === reason) return;
    if (!up) reason = words;
    logger.warn(message);
  }

  /** Resolves when the connection is up or closed, or after `ms`. */
  function restored(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      waiting.add(done);
    });
  }

  async function sendWhenUp<T>(
    { server, store }: Link["at"],
    question: Question<T>,
    timeoutMs: number,
    inWords: (error: unknown) => Error,
  ): Promise<T> {
    const start = performance.now();
    if (!released && !connection.isClosed()) await restored(timeoutMs);
    const left = timeoutMs - (performance.now() - start);
    if (up && left >= 1) return await requests.send(question, left, inWords);
    const what = problem() ?? `the connection to ${server} was back only after ${timeoutMs} ms.`;
    throw new StoreUnavailableError(what, { store, outcome: "not_applied" });
  }

  function problem(): string | undefined {
    if (released || connection.isClosed()) return `the connection to ${whole.server} was closed. Open another one.`;
    if (up) return undefined;
    const why = reason === undefined ? "." : `: ${reason}`;
    return `the connection to ${whole.server} is down${why} It is tried again ${
      isOwn ? "by itself" : "as often as it was told"
    }.`;
  }

  const linkAt = (at: Link["at"]): Link => {
    const words = new Map<Circumstances["doing"], (error: unknown) => Error>();
    const inWords = (doing: Circumstances["doing"]) => {
      let known = words.get(doing);
      if (!known) words.set(doing, known = (error) => toStoreError(error, { ...at, doing }));
      return known;
    };
    const request: Link["request"] = (doing, question, timeoutMs = at.timeoutMs) =>
      up ? requests.send(question, timeoutMs, inWords(doing)) : sendWhenUp(at, question, timeoutMs, inWords(doing));
    return {
      connection,
      at,
      about: (bucket) => linkAt({ ...at, bucket }),
      request,
      published,
      get losses() {
        return losses;
      },
      get problem() {
        return problem();
      },
      async ask(doing, what, payload, but) {
        const answer = await request(doing, {
          subject: `${api}.${what}`,
          payload: payload === undefined ? undefined : JSON.stringify(payload),
          isRepeatable: !mayChange(doing),
          read: readAnswer,
        });
        const error = answer["error"];
        if (!isAnswer(error)) return answer;
        if (but !== undefined && error["err_code"] === but) return undefined;
        throw toStoreError(apiError(error), { ...at, doing });
      },
      onReconnect: (callback) => void reconnected.push(callback),
      release() {
        // nats.js's iterator can be stopped, though its type does not say so
        if ("stop" in statuses && typeof statuses.stop === "function") statuses.stop();
        // Requests that still wait for the connection fail now, and leave no timer.
        released = true;
        up = false;
        goOn();
        lose();
        requests.release();
      },
    };
  };

  return linkAt(whole);
}

const AGAIN = "trying again until it is back";
const HANDED_IN = "it was handed in, and is tried again as often as it was told";

const decoder = new TextDecoder();

/** Reads what should be a JSON object; anything else reads as an empty one. */
export function readAnswer(data: Uint8Array): Answer {
  try {
    const value: unknown = JSON.parse(decoder.decode(data));
    return isAnswer(value) ? value : {};
  } catch {
    return {};
  }
}

/** Whether something is an object. */
export function isAnswer(value: unknown): value is Answer {
  return typeof value === "object" && value !== null;
}

/** An error reported by the JetStream API, in the shape that nats.js gives it. */
export function apiError(error: Answer): Error {
  const text = typeof error["description"] === "string" ? error["description"] : "no description";
  return Object.assign(new Error(text), { name: "JetStreamApiError", code: error["err_code"] });
}
