import type { Subscription } from "@nats-io/nats-core";
import { StoreUnavailableError } from "../../core/errors.ts";
import type { Peers } from "../../core/peers.ts";
import type { Link } from "./link.ts";

/**
 * What {@link Peers} promise about addresses. An address read from a stored value may be anything, and becomes part of
 * a subject.
 */
const ADDRESS = /^(\w{1,32})-(\w{1,16})$/;

const NOTHING = new Uint8Array();

/** {@link Peers} that can be released. */
export interface NatsPeers extends Peers {
  /** Stops answering, so that whatever is served on the same connection later can answer. */
  release(): void;
}

/**
 * {@link Peers} that talk over core NATS. A process has one subscription for all of its addresses, which begin with its
 * name. A user without permission for the subjects has none, and everything works without it.
 */
export function createNatsPeers(link: Link, bucket: string): NatsPeers {
  const subscriptions: Subscription[] = [];
  const served = new Map<string, Parameters<Peers["serve"]>[1]>();
  const names = new Set<string>();
  /** The peer that was asked last is likely to be asked again. */
  let asked: { readonly address: string; readonly subject: string } | undefined;

  function subjectOf(address: string): string | undefined {
    if (asked?.address === address) return asked.subject;
    const [, name, number] = ADDRESS.exec(address) ?? [];
    if (name === undefined) return undefined;
    asked = { address, subject: `_ratesync.${bucket}.peer.${name}.${number}` };
    return asked.subject;
  }

  function subscribe(name: string): void {
    names.add(name);
    const subscription = link.connection.subscribe(`_ratesync.${bucket}.peer.${name}.*`, {
      callback(error, message) {
        if (error !== null || message.reply === undefined) return;
        const address = `${name}-${message.subject.slice(message.subject.lastIndexOf(".") + 1)}`;
        const receive = served.get(address);
        try {
          if (receive) receive(message.data, (answer) => message.respond(answer));
          else message.respond(NOTHING);
        } catch {
          // nats.js stops reading after anything that is thrown here. The process that asked goes on by itself.
        }
      },
    });
    subscriptions.push(subscription);
  }

  return {
    serve(address, receive) {
      const [, name] = ADDRESS.exec(address) ?? [];
      if (name === undefined) return () => {};
      served.set(address, receive);
      try {
        if (!names.has(name)) subscribe(name);
      } catch {
        // the connection is closed, and whatever the caller does next will say so
      }
      return () => void (served.get(address) === receive && served.delete(address));
    },

    ask(address, message, timeoutMs) {
      const subject = subjectOf(address);
      if (subject === undefined) {
        return Promise.reject(
          new StoreUnavailableError("the last writer has no address that can be asked.", {
            store: link.at.store,
            outcome: "not_applied",
          }),
        );
      }
      return link.request("ask", { subject, payload: message, read: (data) => data }, timeoutMs);
    },

    release() {
      for (const subscription of subscriptions.splice(0)) subscription.unsubscribe();
      served.clear();
      names.clear();
    },
  };
}
