import type { Clock } from "../../src/core/clock.ts";
import { StoreUnavailableError } from "../../src/core/errors.ts";
import type { Peers } from "../../src/core/peers.ts";
import type { Fault, FaultName } from "../../src/testing/faulty_kv.ts";

/** How one process talks to the others in a simulation. */
export interface SimulatedPeers extends Peers {
  /** How many questions the process has asked. */
  readonly asked: number;
  /**
   * Called for every question; the fault that it returns happens to that question. A question with a `conflict` arrives
   * twice.
   */
  faults: () => Fault | FaultName | undefined | void;
  /** What becomes of the answers that the process gives. */
  garble: (answer: Uint8Array) => Uint8Array;
}

/**
 * The link that the messages of a process use: they take as long as those to the store, and are lost when those are.
 */
interface Link {
  readonly latencyMs: number;
  readonly isDown: boolean;
}

interface Served {
  readonly receive: Parameters<Peers["serve"]>[1];
  readonly link: Link;
  readonly peers: SimulatedPeers;
}

/** A network between processes. Returns a function that connects one of them. */
export function createSimulatedPeers(clock: Clock): (link: Link) => SimulatedPeers {
  const served = new Map<string, Served>();
  const pause = (ms: number) => ms > 0 ? clock.sleep(ms) : Promise.resolve();
  const lost = () => new Promise<never>(() => {});

  return (link) => {
    let asked = 0;

    async function send(address: string, message: Uint8Array): Promise<Uint8Array> {
      asked++;
      const said = link.isDown ? "request_lost" : peers.faults();
      const fault = typeof said === "string" ? { kind: said } : said;
      const other = served.get(address);
      const pauseMs = (link.latencyMs + (other?.link.latencyMs ?? link.latencyMs)) / 2;
      await pause(pauseMs);
      if (fault?.kind === "request_lost" || other?.link.isDown) return await lost();
      if (fault?.kind === "request_late" && "byMs" in fault) await pause(fault.byMs);
      if (!other || served.get(address) !== other || fault?.kind === "refused") {
        await pause(pauseMs);
        throw new StoreUnavailableError("nobody is there.", { store: "simulated", outcome: "not_applied" });
      }
      if (fault?.kind === "conflict") other.receive(message.slice(), () => {});
      const isApplied = fault?.kind !== "error" || ("applied" in fault && fault.applied === true);
      const answer = isApplied
        ? await new Promise<Uint8Array>((respond) => other.receive(message.slice(), respond))
        : undefined;
      if (fault?.kind === "error") throw new Error("the simulation failed");
      if (fault?.kind === "answer_lost" || answer === undefined || link.isDown || other.link.isDown) {
        return await lost();
      }
      if (fault?.kind === "answer_late" && "byMs" in fault) await pause(fault.byMs);
      await pause(pauseMs);
      return other.peers.garble(answer);
    }

    const peers: SimulatedPeers = {
      get asked() {
        return asked;
      },
      faults: () => undefined,
      garble: (answer) => answer,
      serve(address, receive) {
        const own = { receive, link, peers };
        served.set(address, own);
        return () => void (served.get(address) === own && served.delete(address));
      },
      async ask(address, message, timeoutMs) {
        const over = new AbortController();
        const late = clock.sleep(timeoutMs, over.signal).then(() => {
          throw new Error(`no answer within ${timeoutMs} ms`);
        });
        late.catch(() => {}); // the answer came first
        try {
          return await Promise.race([send(address, message), late]);
        } finally {
          over.abort("over");
        }
      },
    };
    return peers;
  };
}
