import type { Peers } from "../../src/core/peers.ts";
import type { Host } from "./host.ts";
import type { Network } from "./network.ts";

/** What processes send each other. */
type PeerMessage =
  | { readonly kind: "ask"; readonly id: number; readonly address: string; readonly message: Uint8Array }
  | { readonly kind: "told"; readonly id: number; readonly answer: Uint8Array };

/** How a process talks to the others: over the network, with everything that can happen there. */
export interface HostPeers extends Peers {
  /** Something has arrived from another process. */
  receive(message: unknown, from: string): void;
}

/** The {@link HostPeers} of a process, whose addresses begin with its name. */
export function createHostPeers(host: Host, network: Network): HostPeers {
  const served = new Map<string, Parameters<Peers["serve"]>[1]>();
  const pending = new Map<number, (answer: Uint8Array) => void>();
  let lastId = 0;

  function send(to: string, message: PeerMessage): void {
    if (host.isAlive) network.send(host.name, to, message);
  }

  return {
    receive(message, from) {
      const received = message as PeerMessage; // only processes send this
      if (received.kind === "told") {
        pending.get(received.id)?.(received.answer);
        pending.delete(received.id);
        return;
      }
      const { id, address, message: question } = received;
      const respond = (answer: Uint8Array) => send(from, { kind: "told", id, answer });
      const receive = served.get(address);
      if (receive) receive(question, respond);
      else respond(new Uint8Array());
    },
    serve(address, receive) {
      served.set(address, receive);
      return () => void (served.get(address) === receive && served.delete(address));
    },
    async ask(address, message, timeoutMs) {
      const id = ++lastId;
      const over = new AbortController();
      const told = new Promise<Uint8Array>((resolve) => pending.set(id, resolve));
      const late = host.clock.sleep(timeoutMs, over.signal).then(() => {
        throw new Error(`no answer within ${timeoutMs} ms`);
      });
      late.catch(() => {}); // the answer came first
      send(address.slice(0, address.indexOf("~")), { kind: "ask", id, address, message });
      try {
        return await Promise.race([told, late]);
      } finally {
        pending.delete(id);
        over.abort("over");
      }
    },
  };
}
