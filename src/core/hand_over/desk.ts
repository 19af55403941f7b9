import type { Peers } from "../peers.ts";
import type { ForeignWork, HandOver } from "./hand_over.ts";

/** Answers a message from another process. Never throws. */
export type Respond = Parameters<Parameters<Peers["serve"]>[1]>[1];

/** A key for which other processes hand work over. */
export interface Recipient {
  /** Work has arrived: calls `respond` with the answer once there is one. */
  receive(foreign: ForeignWork, respond: Respond): void;
  /** A process whose work cannot be decided here wants to write. */
  makeRoom(): void;
}

/** Where other processes hand their work over to this one, for all keys of a limiter. */
export interface Desk {
  /** From now on, others can hand work for this key over to the address, because they may lose races against it. */
  open(address: string, key: string, recipient: Recipient): void;
  /** From now on, they cannot. */
  shut(address: string, key: string, recipient: Recipient): void;
  /** Nobody can hand anything over until the next {@link Desk.open}. */
  close(): void;
}

interface Place {
  readonly recipients: Map<string, Recipient>;
  readonly stop: () => void;
}

/** A {@link Desk} that is closed. */
export function createDesk(peers: Peers, handOver: HandOver): Desk {
  const places = new Map<string, Place>();

  function serve(address: string): Place {
    const recipients = new Map<string, Recipient>();
    const stop = peers.serve(address, (message, reply) => {
      const respond: Respond = (answer) => {
        try {
          reply(answer);
        } catch {
          // The process that asked hears nothing, and goes on by itself.
        }
      };
      const foreign = handOver.decodeWork(message);
      const recipient = foreign && recipients.get(foreign.key);
      if (!recipient || foreign.work?.owner === address) return respond(handOver.encodeRefusal());
      if (foreign.work) return recipient.receive(foreign, respond);
      recipient.makeRoom();
      respond(handOver.encodeRefusal("write"));
    });
    const place = { recipients, stop };
    places.set(address, place);
    return place;
  }

  return {
    open(address, key, recipient) {
      (places.get(address) ?? serve(address)).recipients.set(key, recipient);
    },
    shut(address, key, recipient) {
      const place = places.get(address);
      if (place?.recipients.get(key) !== recipient) return;
      place.recipients.delete(key);
      if (place.recipients.size > 0) return;
      places.delete(address);
      place.stop();
    },
    close() {
      for (const { stop } of places.values()) stop();
      places.clear();
    },
  };
}
