import type { LimiterRequest } from "../registry/multi.ts";

/**
 * The key of a call's limit: text, or the values of a template's placeholders by name.
 *
 * @example
 * ```ts
 * import type { CallKey } from "@ratesync/core";
 *
 * const key = (tenant: string, user: number): CallKey => ({ tenant, user });
 * console.log(key("acme", 7)); // { tenant: "acme", user: 7 }
 * ```
 */
export type CallKey = string | Readonly<Record<string, unknown>>;

/**
 * A value that may replace a placeholder of a template.
 *
 * @example
 * ```ts
 * import type { PlaceholderValue } from "@ratesync/core";
 *
 * const userId: PlaceholderValue = 7;
 * console.log(userId);
 * ```
 */
export type PlaceholderValue = string | number | bigint | boolean;

/**
 * The placeholders of a template.
 *
 * @typeParam Template The template. Nothing is known about a text that is known only at run time.
 *
 * @example
 * ```ts
 * import type { PlaceholderOf } from "@ratesync/core";
 *
 * const placeholder: PlaceholderOf<"api:{tenant.id}:{user}"> = "tenant.id";
 * console.log(placeholder);
 * ```
 */
export type PlaceholderOf<Template extends string> = Template extends `${string}{${infer Path}}${infer Rest}`
  ? Path | PlaceholderOf<Rest>
  : never;

/**
 * An object in which a path leads to a value for a placeholder.
 *
 * @typeParam Path A name, or several separated by dots.
 *
 * @example
 * ```ts
 * import type { ObjectWithPath } from "@ratesync/core";
 *
 * const order: ObjectWithPath<"customer.id"> = { customer: { id: 7 } };
 * console.log(order.customer.id); // 7
 * ```
 */
export type ObjectWithPath<Path extends string> = Path extends `${infer Name}.${infer Rest}`
  ? { readonly [Key in Name]: ObjectWithPath<Rest> }
  : { readonly [Key in Path]: PlaceholderValue };

/**
 * An object with a value for every placeholder of a template.
 *
 * @typeParam Template The template.
 *
 * @example
 * ```ts
 * import type { ObjectForTemplate } from "@ratesync/core";
 *
 * const call: ObjectForTemplate<"api:{tenant}:{user.id}"> = { tenant: "acme", user: { id: 7 } };
 * console.log(call.tenant); // "acme"
 * ```
 */
export type ObjectForTemplate<Template extends string> = Template extends `${string}{${infer Path}}${infer Rest}`
  ? ObjectWithPath<Path> & ObjectForTemplate<Rest>
  : unknown;

/**
 * The limiter that a text names, as the type of a parameter: the text itself if all is well, and otherwise what the
 * compiler should report as expected. Nothing is known about a text that is known only at run time.
 *
 * @typeParam Text The id of a limiter, or a template.
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import type { KnownLimiter } from "@ratesync/core";
 *
 * const limiter: KnownLimiter<"api:{userId}", "api" | "login"> = "api:{userId}";
 * console.log(limiter);
 * ```
 */
export type KnownLimiter<Text extends string, LimiterId extends string> = string extends Text ? Text
  : Text extends `${string}{${string}` | `${string}}${string}`
    ? Text extends `${infer Base}:${string}` ? Base extends LimiterId ? Text : `${LimiterId}:${string}`
    : `${LimiterId}:${string}`
  : Text extends LimiterId ? Text
  : LimiterId;

/**
 * {@link KnownLimiter} for a function without the option `key`: with a template, the function's only argument must have
 * the placeholders.
 *
 * @typeParam Text The id of a limiter, or a template.
 * @typeParam LimiterId The ids of the limiters.
 * @typeParam Args The arguments of the function that is limited.
 *
 * @example
 * ```ts
 * import type { FittingLimiter } from "@ratesync/core";
 *
 * const limiter: FittingLimiter<"api:{userId}", "api" | "login", [{ userId: string }]> = "api:{userId}";
 * console.log(limiter);
 * ```
 */
export type FittingLimiter<Text extends string, LimiterId extends string, Args extends readonly unknown[]> =
  [PlaceholderOf<Text>] extends [never] ? KnownLimiter<Text, LimiterId>
    : [Args[0], Args["length"]] extends [ObjectForTemplate<Text>, 1] ? KnownLimiter<Text, LimiterId>
    : `the function's only argument must be an object with {${PlaceholderOf<Text>}}`;

/**
 * What the option `key` may return: for the id of a limiter, text; for a template, its placeholders by name or, if
 * there is only one, its text.
 *
 * @typeParam Text The id of a limiter, or a template.
 *
 * @example
 * ```ts
 * import type { KeyFor } from "@ratesync/core";
 *
 * const both: KeyFor<"api:{tenant}:{user}"> = { tenant: "acme", user: 7 };
 * const only: KeyFor<"api:{user}"> = "alice";
 * console.log(both, only);
 * ```
 */
export type KeyFor<Text extends string> = string extends Text ? CallKey
  : [PlaceholderOf<Text>] extends [never] ? string
  : Text extends `${string}{${string}{${string}` ? ObjectForTemplate<Text>
  : ObjectForTemplate<Text> | string;

/**
 * A function of a call's arguments that says which limiter the call needs, at once or as a promise.
 *
 * @typeParam Args The arguments of the function that is limited.
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import type { LimiterChoice } from "@ratesync/core";
 *
 * const byPlan: LimiterChoice<[user: { id: string; plan: string }]> = ({ id, plan }) => ({ id: `api-${plan}`, key: id });
 * console.log(byPlan({ id: "alice", plan: "free" })); // { id: "api-free", key: "alice" }
 * ```
 */
export type LimiterChoice<Args extends readonly unknown[], LimiterId extends string = string> = (
  ...args: Args
) => LimiterId | LimiterRequest<LimiterId> | Promise<LimiterId | LimiterRequest<LimiterId>>;
