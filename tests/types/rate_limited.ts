// Nothing here runs. `deno check` compiles it, and a line below `@ts-expect-error` that compiles is the failing test.
import { createRateSync, rateLimited, type RateLimitedFunction } from "../../mod.ts";
import type { Equal, Expect } from "./expect.ts";

interface Order {
  readonly customer: { readonly id: number; readonly name?: string };
  readonly item: string;
}

const rateSync = createRateSync({ limiters: { api: { ratePerSecond: 1 }, login: { ratePerSecond: 1 } } });
const send = (message: { userId: string; body?: string }) => Promise.resolve(message.userId.length);
const order = (order: Order) => order.item;

/** The limiter of a typed registry. */
export function limiters(): void {
  rateLimited("api", send, { rateSync });
  // @ts-expect-error: misspelt
  rateLimited("apo", send, { rateSync });
  rateLimited("api:{userId}", send, { rateSync });
  // @ts-expect-error: the base is misspelt
  rateLimited("apo:{userId}", send, { rateSync });
  // @ts-expect-error: a template has a base
  rateLimited("{userId}", send, { rateSync });
  // @ts-expect-error: without placeholders it is an id, and not a base and a key
  rateLimited("api:premium", send, { rateSync });
  rateLimited(({ userId }) => userId === "bot" ? "login" : { id: "api", key: userId }, send, { rateSync });
  // @ts-expect-error: misspelt
  rateLimited(() => "apo", send, { rateSync });
  // @ts-expect-error: misspelt
  rateLimited(({ userId }) => ({ id: "apo", key: userId }), send, { rateSync });
  rateLimited(async ({ userId }) => await Promise.resolve({ id: "api" as const, key: userId }), send, { rateSync });
  rateLimited("any", send);
  rateLimited("any", send, { rateSync: createRateSync() });
  rateLimited("any" as string, send, { rateSync: createRateSync() });
}

/** The placeholders of a template. */
export function placeholders(text: string): void {
  rateLimited("any:{userId}", send);
  // @ts-expect-error: misspelt
  rateLimited("any:{userID}", send);
  // @ts-expect-error: one of two is misspelt
  rateLimited("any:{userId}:{user}", send);
  // @ts-expect-error: may be absent
  rateLimited("any:{body}", send);
  rateLimited("any:{customer.id}:{item}", order);
  // @ts-expect-error: no value, but an object
  rateLimited("any:{customer}", order);
  // @ts-expect-error: nothing under this path
  rateLimited("any:{customer.uid}", order);
  // @ts-expect-error: may be absent
  rateLimited("any:{customer.name}", order);
  // @ts-expect-error: the function has no argument
  rateLimited("any:{userId}", () => 1);
  // @ts-expect-error: the argument is no object
  rateLimited("any:{userId}", (userId: string) => userId);
  // @ts-expect-error: two arguments
  rateLimited("any:{userId}", (_: { userId: string }, more: number) => more);
  // @ts-expect-error: who gives it two arguments is refused
  rateLimited("any:{userId}", (_: { userId: string }, more?: number) => more);
  // @ts-expect-error: nobody knows how many arguments it gets
  rateLimited("any:{userId}", (...all: { userId: string }[]) => all.length);
  // @ts-expect-error: who calls it without an argument gives no user
  rateLimited("any:{userId}", (message?: { userId: string }) => message);
  // Of a text that is only known at run time nothing is known.
  rateLimited(text, () => 1);
  rateLimited(text, send, { rateSync: createRateSync() });
}

/** The option `key`. */
export function keys(): void {
  const call = (tenant: string, user: number) => tenant.length + user;
  rateLimited("any:{tenant}:{user}", call, { key: (tenant, user) => ({ tenant, user }) });
  // @ts-expect-error: no user
  rateLimited("any:{tenant}:{user}", call, { key: (tenant) => ({ tenant }) });
  rateLimited("any:{user}", call, { key: (_, user) => String(user) });
  // @ts-expect-error: one text for two placeholders
  rateLimited("any:{tenant}:{user}", call, { key: (tenant) => tenant });
  rateLimited("any", call, { key: (tenant) => tenant });
  // @ts-expect-error: a key without a template is text
  rateLimited("any", call, { key: (tenant) => ({ tenant }) });
  // @ts-expect-error: a number is no key
  rateLimited("any", call, { key: (_, user) => user });
  rateLimited("api:{user}", call, { rateSync, key: (_, user) => ({ user }), mode: "try", timeoutMs: 0 });
  // @ts-expect-error: misspelt, beside a key
  rateLimited("apo:{user}", call, { rateSync, key: (_, user) => ({ user }) });
}

/** What the limited function gives. */
export function functions(): void {
  const waits = rateLimited("any", send);
  const waitsAsSaid = rateLimited("any", send, { mode: "wait", timeoutMs: 5 });
  const tries = rateLimited("any", send, { mode: "try", timeoutMs: 0 });
  const ofMethod = rateLimited("any", function (this: Map<string, number>, key: string) {
    return this.get(key);
  });
  type Message = { userId: string; body?: string };
  type _ = [
    Expect<Equal<typeof waits, RateLimitedFunction<unknown, [message: Message], number>>>,
    Expect<Equal<typeof waitsAsSaid, typeof waits>>,
    Expect<Equal<typeof tries, RateLimitedFunction<unknown, [message: Message], number | null>>>,
    Expect<Equal<Parameters<typeof ofMethod>, [key: string]>>,
    Expect<Equal<ThisParameterType<typeof ofMethod>, Map<string, number>>>,
    Expect<Equal<ReturnType<typeof ofMethod>, Promise<number | undefined>>>,
  ];
  // @ts-expect-error: trying needs a timeout
  rateLimited("any", send, { mode: "try" });
  // @ts-expect-error: no mode
  rateLimited("any", send, { mode: "trie", timeoutMs: 0 });
  // @ts-expect-error: misspelt
  rateLimited("any", send, { timeout: 0 });
  // @ts-expect-error: no limiter
  rateLimited(5, send);
}

/** As a decorator. */
export class Methods {
  @rateLimited("any:{customer.id}")
  async template({ item }: Order): Promise<string> {
    return await Promise.resolve(item);
  }

  // @ts-expect-error: two arguments
  @rateLimited("any:{customer.id}")
  async twoArguments({ item }: Order, n: number): Promise<string> {
    return await Promise.resolve(item.repeat(n));
  }

  // @ts-expect-error: nothing under this path
  @rateLimited("any:{customer.uid}")
  async misspeltPlaceholder({ item }: Order): Promise<string> {
    return await Promise.resolve(item);
  }

  // @ts-expect-error: misspelt
  @rateLimited("apo", { rateSync })
  async misspeltLimiter({ item }: Order): Promise<string> {
    return await Promise.resolve(item);
  }

  @rateLimited("any", { key: (user: string) => user })
  async key(user: string, n: number): Promise<string> {
    return await Promise.resolve(user.repeat(n));
  }

  // @ts-expect-error: the key is made of a text, and the argument is a number
  @rateLimited("any", { key: (user: string) => user })
  async keyOfAnother(user: number): Promise<number> {
    return await Promise.resolve(user);
  }

  @rateLimited((user: string) => ({ id: "api", key: user }), { rateSync })
  async choice(user: string): Promise<string> {
    return await Promise.resolve(user);
  }

  @rateLimited("any", { mode: "try", timeoutMs: 0 })
  async tries(): Promise<string | null> {
    return await Promise.resolve("");
  }

  // @ts-expect-error: it may resolve to null
  @rateLimited("any", { mode: "try", timeoutMs: 0 })
  async triesWithoutSaying(): Promise<string> {
    return await Promise.resolve("");
  }

  // @ts-expect-error: it returns no promise
  @rateLimited("any")
  atOnce(): string {
    return "";
  }
}
