/**
 * How processes on one key talk to each other, beside the store: whoever loses a race hands its requests to the last
 * writer of the key, which decides them with its own. That makes a contended key fast, and is all that it does: only a
 * compare-and-set decides, so a message that is lost, late, or doubled wastes some capacity at the most.
 *
 * What arrives is checked like any input. But an answer is trusted to have been written: whoever may use these subjects
 * may as well write the values.
 *
 * @example Within one process
 * ```ts
 * import type { Peers } from "@ratesync/core";
 *
 * const served = new Map<string, Parameters<Peers["serve"]>[1]>();
 * const peers: Peers = {
 *   serve(address, answer) {
 *     served.set(address, answer);
 *     return () => served.delete(address);
 *   },
 *   async ask(address, message) {
 *     const bytes = await served.get(address)?.(message);
 *     if (!bytes) throw new Error("no answer");
 *     return bytes;
 *   },
 * };
 * peers.serve("a", (message) => Promise.resolve(message));
 * console.log(await peers.ask("a", new Uint8Array([1]), 100)); // Uint8Array(1) [ 1 ]
 * ```
 */
export interface Peers {
  /**
   * Answers what others ask this address, until the function that it returns is called; a promise of `undefined` leaves
   * the question without an answer. Never throws: who cannot be asked is not asked. An address is unique, and has letters,
   * digits and `-`.
   */
  serve(address: string, answer: (message: Uint8Array) => Promise<Uint8Array | undefined>): () => void;
  /**
   * Asks whoever serves the address, which comes from a stored value and may be anything.
   *
   * Resolves to nothing, an empty array, if the process is there and does not serve the address.
   *
   * @throws {StoreUnavailableError} with `outcome: "not_applied"` if nobody is there. Any other error, such as that of no
   * answer within `timeoutMs`, means that the question may have arrived.
   */
  ask(address: string, message: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
}
