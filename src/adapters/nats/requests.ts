import { createInbox, type Msg, type MsgHdrs, type NatsConnection, type Subscription } from "@nats-io/nats-core";
import { createAlarm } from "../../core/alarm.ts";
import { systemClock } from "../system_clock.ts";

/**
 * Questions over a connection, each with its answer. One subscription receives all answers and one timer bounds all of
 * them, whereas `connection.request()` starts a timer, and creates an error with its stack, for each.
 */
export interface Requests {
  /**
   * Sends one message, and resolves to what is read from its answer. Fails when `connection.request()` would, with the
   * error that `inWords` makes.
   */
  send<T>(question: Question<T>, timeoutMs: number, inWords: (error: unknown) => Error): Promise<T>;
  /** Fails everything that waits for an answer or, with a subject, everything that was sent there. */
  fail(error: Error, subject?: string): void;
  /** Stops receiving answers. */
  release(): void;
}

/** A message, and how to read its answer. */
export interface Question<T> {
  readonly subject: string;
  readonly payload?: Uint8Array | string | undefined;
  /**
   * Whether asking twice is as good as asking once. If so, it is sent again while nobody answers: for a bucket whose
   * leader has just died or changed, nobody answers or even says so.
   */
  readonly isRepeatable?: boolean;
  /** The headers, made as the message is sent. */
  headersNow?(): MsgHdrs;
  /** Reads the data of the answer. What it throws becomes the error of the question. */
  read(data: Uint8Array): T | Promise<T>;
}

interface Pending {
  readonly question: Question<unknown>;
  readonly until: number;
  /** When it is sent again, if ever. */
  again: number;
  readonly pauseMs: number;
  settle(outcome: Msg | Error): void;
}

const NOTHING = new Uint8Array();

const NO_RESPONDERS = 503;

/** How often a question is sent at most, in equal parts of the time that its answer may take. */
const TRIES = 4;

/** {@link Requests} that have sent nothing yet: the first question subscribes. */
export function createRequests(connection: NatsConnection): Requests {
  const pending = new Map<number, Pending>();
  // A connection that was handed in may have been given a different prefix, which its type does not show.
  const { options } = connection as { readonly options?: { readonly inboxPrefix?: string } };
  let inbox = "";
  let subscription: Subscription | undefined;
  let last = 0;

  const alarm = createAlarm(systemClock, () => {
    const now = systemClock.now();
    let next = Infinity;
    for (const [token, request] of pending) {
      if (request.until <= now) {
        pending.delete(token);
        request.settle(namedError("TimeoutError", "timeout"));
        continue;
      }
      if (request.again <= now) publishAgain(token, request);
      next = Math.min(next, request.until, request.again);
    }
    if (next < Infinity) alarm.glance(next);
  });

  function publish(token: number, question: Question<unknown>): void {
    const { subject, payload = NOTHING } = question;
    const reply = `${inbox}.${token}`;
    connection.publish(subject, payload, question.headersNow ? { reply, headers: question.headersNow() } : { reply });
  }

  function publishAgain(token: number, request: Pending): void {
    request.again += request.pauseMs;
    try {
      publish(token, request.question);
    } catch {
      // the connection is closed, which also fails the question
    }
  }

  function fail(error: Error, subject?: string): void {
    for (const [token, request] of [...pending]) {
      if (subject !== undefined && request.question.subject !== subject) continue;
      pending.delete(token);
      request.settle(error);
    }
  }

  function receive(error: Error | null, message: Msg): void {
    if (error !== null) {
      // Without a subscription no answer can come. The next question subscribes again.
      subscription = undefined;
      return fail(error);
    }
    const token = Number(message.subject.slice(inbox.length + 1));
    const request = pending.get(token);
    if (!request) return;
    pending.delete(token);
    if (message.data.length === 0 && message.headers?.code === NO_RESPONDERS) {
      request.settle(namedError("NoRespondersError", `no responders: '${request.question.subject}'`));
    } else request.settle(message);
  }

  function subscribe(): void {
    inbox = createInbox(options?.inboxPrefix);
    subscription = connection.subscribe(`${inbox}.*`, { callback: receive });
  }

  return {
    send(question, timeoutMs, inWords) {
      return new Promise((resolve, reject) => {
        const token = ++last;
        const now = systemClock.now();
        const until = now + timeoutMs;
        try {
          if (!subscription || subscription.isClosed()) subscribe();
          publish(token, question);
        } catch (error) {
          return reject(inWords(error));
        }
        const settle = (outcome: Msg | Error) => {
          if (outcome instanceof Error) return reject(inWords(outcome));
          try {
            resolve(question.read(outcome.data));
          } catch (error) {
            reject(error);
          }
        };
        const pauseMs = question.isRepeatable ? timeoutMs / TRIES : Infinity;
        pending.set(token, { question, until, again: now + pauseMs, pauseMs, settle });
        alarm.glance(Math.min(until, now + pauseMs));
      });
    },
    fail,
    release() {
      subscription?.unsubscribe();
      subscription = undefined;
    },
  };
}

function namedError(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}
