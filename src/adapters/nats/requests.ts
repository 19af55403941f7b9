import { createInbox, type Msg, type MsgHdrs, type NatsConnection, type Subscription } from "@nats-io/nats-core";
import { createAlarm } from "../../core/alarm.ts";
import { systemClock } from "../system_clock.ts";

/**
 * Questions over a connection, each with its answer. One subscription hears all answers and one timer bounds all of them,
 * where `connection.request()` starts a timer, and makes an error with its stack, for each.
 */
export interface Requests {
  /** Sends one message, and resolves to what is read in its answer. Fails as `connection.request()` would, in other words. */
  send<T>(question: Question<T>, timeoutMs: number, inWords: (error: unknown) => Error): Promise<T>;
  /** Everything that waits for an answer fails; with a subject, what was sent there. */
  fail(error: Error, subject?: string): void;
  /** Hears no more answers. */
  release(): void;
}

/** A message, and what its answer says. */
export interface Question<T> {
  readonly subject: string;
  readonly payload?: Uint8Array | string | undefined;
  /**
   * Whether asking twice is as good as asking once. It is sent again while nobody answers: of a bucket whose leader has just
   * died or changed, nobody does, nor says so.
   */
  readonly isRepeatable?: boolean;
  /** What to send with it, as it is sent. */
  headersNow?(): MsgHdrs;
  /** Reads the data of the answer. What it throws is what is wrong. */
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

/** How often a question is sent at the most, in equal parts of the time that its answer may take. */
const TRIES = 4;

/** {@link Requests} of which none has been sent yet: the first one subscribes. */
export function createRequests(connection: NatsConnection): Requests {
  const pending = new Map<number, Pending>();
  // A connection that was handed in may have been told another prefix, which its type does not say.
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
      // the connection is closed, which fails the question as well
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
      // Without answers there are no questions; the next one tries again.
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
