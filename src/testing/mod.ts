/**
 * For tests of code that uses `@ratesync/core`: time that passes when the test says so, stores that fail when the test
 * says so, and limits that start over.
 *
 * | Your test wants                                      | Use                                                               |
 * | ---------------------------------------------------- | ----------------------------------------------------------------- |
 * | code that calls the module's `acquire`, in no time | {@link useVirtualTime} |
 * | a registry of its own, in no time                    | {@link createVirtualClock} and `createRateSync({ clock })`        |
 * | to see what happens when the store is slow or down   | {@link createFaultyKv}, or `kv()` of what `useVirtualTime` returns |
 * | the whole limit before every test, in real time      | {@link resetAllLimiters}, {@link resetLimiter}                    |
 * | an empty bucket on a real server                     | {@link resetBackendStore}                                         |
 *
 * Everything here works in any test runner, in Deno, Bun and Node.
 *
 * ## Virtual time
 *
 * {@link useVirtualTime} requires nothing of the code under test, which may configure its limiters anywhere and keep
 * the results of `getLimiter` in constants. While virtual time lasts, every limiter of the module works in memory, on a
 * clock that stands still. `runUntil(promise)` moves the clock on from one waiting caller to the next until the promise
 * is settled, and `advance(ms)` moves it by that much. Without one of them, a caller that waits for a limiter waits for
 * ever: do not `await` an `acquire` that has to wait, but `await time.runUntil(acquire(...))`.
 *
 * @example Code that calls `acquire`, and its test
 * ```ts
 * import { acquire, configureLimiter, configureStore } from "@ratesync/core";
 * import { useVirtualTime } from "@ratesync/core/testing";
 *
 * // mails.ts
 * configureStore("shared", { engine: "nats", url: "nats://nats.example.com:4222" });
 * configureLimiter("mails", { store: "shared", ratePerSecond: 1 / 60, burst: 2 });
 *
 * async function sendMails(addresses: string[]): Promise<string[]> {
 *   const sent: string[] = [];
 *   for (const address of addresses) {
 *     await acquire("mails");
 *     sent.push(address);
 *   }
 *   return sent;
 * }
 *
 * // mails_test.ts
 * Deno.test("two mails leave at once, and then one a minute", async () => {
 *   await using time = await useVirtualTime();
 *   const begun = time.now();
 *   const sent = await time.runUntil(sendMails(["ann", "bob", "cy", "dee"]));
 *   if (sent.length !== 4) throw new Error("a mail is missing");
 *   if (time.now() - begun !== 120_000) throw new Error("not in two minutes");
 * });
 * ```
 *
 * @example A registry of its own, for code that is handed one
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 * import { createVirtualClock } from "@ratesync/core/testing";
 *
 * const clock = createVirtualClock();
 * const rateSync = createRateSync({ clock });
 * rateSync.configureLimiter("hourly", { ratePerSecond: 1 / 3_600 });
 * await rateSync.acquire("hourly");
 * const permit = await clock.runUntil(rateSync.acquire("hourly"));
 * console.log(Math.round(permit.waitedMs)); // 3600000
 * ```
 *
 * @example What our code does while the store is down
 * ```ts
 * import { acquire, configureLimiter, configureStore, RateLimiterAcquisitionError } from "@ratesync/core";
 * import { useVirtualTime } from "@ratesync/core/testing";
 *
 * // login.ts
 * configureStore("sessions", { engine: "nats", url: "nats://nats.example.com:4222" });
 * configureLimiter("logins", { store: "sessions", ratePerSecond: 5, failClosed: true, backendTimeoutMs: 200 });
 *
 * async function login(user: string): Promise<number> {
 *   try {
 *     await acquire("logins", { key: user, timeoutMs: 1_000 });
 *     return 200;
 *   } catch (error) {
 *     if (!(error instanceof RateLimiterAcquisitionError)) throw error;
 *     return error.reason === "backend" ? 503 : 429;
 *   }
 * }
 *
 * // login_test.ts
 * await using time = await useVirtualTime();
 * const store = time.kv("sessions");
 * console.log(await time.runUntil(login("ann"))); // 200
 * store.isDown = true;
 * console.log(await time.runUntil(login("ann"))); // 503
 * store.isDown = false;
 * console.log(await time.runUntil(login("ann"))); // 200
 * store.failNext("answer_lost"); // it is asked again, and nobody notices
 * console.log(await time.runUntil(login("ann"))); // 200
 * ```
 *
 * @example Two processes on a bad network keep one limit
 * ```ts
 * import { createRateSync, memoryKv } from "@ratesync/core";
 * import { createFaultyKv, createVirtualClock } from "@ratesync/core/testing";
 *
 * const clock = createVirtualClock();
 * const server = memoryKv(clock);
 * const processes = [1, 2].map((seed) => {
 *   const kv = createFaultyKv({ kv: server, clock, latencyMs: 20, seed });
 *   kv.setFaults({ answer_lost: 0.1, conflict: 0.2, answer_late: 0.1, lateByMs: 50 });
 *   const rateSync = createRateSync({ clock });
 *   rateSync.configureStore("shared", { kv, clock });
 *   rateSync.configureLimiter("api", { store: "shared", algorithm: "sliding_window", limit: 10, windowMs: 60_000 });
 *   return rateSync;
 * });
 * const results = await clock.runUntil(
 *   Promise.all(processes.flatMap((rateSync) => Array.from({ length: 20 }, () => rateSync.tryAcquire("api")))),
 * );
 * console.log(results.filter(({ allowed }) => allowed).length); // 10
 * ```
 *
 * @example Tests in real time that begin with the whole limit
 * ```ts
 * import { configureLimiter, tryAcquire } from "@ratesync/core";
 * import { resetAllLimiters } from "@ratesync/core/testing";
 *
 * configureLimiter("signups", { algorithm: "sliding_window", limit: 3, windowMs: 3_600_000 });
 *
 * for (const test of ["first", "second"]) {
 *   await resetAllLimiters(); // in beforeEach()
 *   console.log(test, (await tryAcquire("signups")).remaining); // 2, both times
 * }
 * ```
 *
 * @module
 */
export type { RegistryOptions } from "./access.ts";
export * from "./faulty_kv.ts";
export * from "./reset.ts";
export { createVirtualClock, type VirtualClock } from "./virtual_clock.ts";
export * from "./virtual_time.ts";
