/**
 * How processes on one key talk to each other, besides using the store: a process that loses a race hands its requests
 * to the last writer of the key, which decides them together with its own. This makes a contended key fast, and does
 * nothing else: only a compare-and-set decides, so a message that is lost, late or doubled wastes some capacity at
 * most.
 *
 * What arrives is checked like any input. But an answer is trusted to have been written: whoever may use these subjects
 * could just as well write the values.
 *
 * @example Within one process
 * ```ts
 * import type { Peers } from "@ratesync/core";
 *
 * const served = new Map<string, Parameters<Peers["serve"]>[1]>();
 * const peers: Peers = {
 *   serve(address, receive) {
 *     served.set(address, receive);
 *     return () => served.delete(address);
 *   },
 *   ask: (address, message, timeoutMs) =>
 *     new Promise((resolve, reject) => {
 *       const timer = setTimeout(() => reject(new Error("no answer")), timeoutMs);
 *       const respond = (answer: Uint8Array) => {
 *         clearTimeout(timer);
 *         resolve(answer);
 *       };
 *       served.get(address)?.(message, respond);
 *     }),
 * };
 * peers.serve("a", (message, respond) => respond(message));
 * console.log(await peers.ask("a", new Uint8Array([1]), 100)); // Uint8Array(1) [ 1 ]
 * ```
 */
export interface Peers {
  /**
   * Passes what others ask this address to `receive`, until the returned function is called. `receive` calls `respond`
   * with the answer, at any time, once or never. Never throws: a process that cannot be asked is not asked. An address
   * is unique, and consists of letters, digits and `-`.
   */
  serve(address: string, receive: (message: Uint8Array, respond: (answer: Uint8Array) => void) => void): () => void;
  /**
   * Asks the process that serves the address, which comes from a stored value and may be anything.
   *
   * Resolves to an empty array if the process is there but does not serve the address. Rejects if there is no answer
   * within `timeoutMs`, which happens often.
   *
   * @throws {StoreUnavailableError} with `outcome: "not_applied"` if nobody is there. Any other error, such as the one
   * for no answer within `timeoutMs`, means that the question may have arrived.
   */
  ask(address: string, message: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
}
