// Nothing here runs. `deno check` compiles it, and a line below `@ts-expect-error` that compiles is the failing test.
import type { CompositeResult, MultiLimiterResult, Permit, RateLimitResult } from "../../mod.ts";
import type { Equal, Expect } from "./expect.ts";

export function ofOne(result: RateLimitResult): void {
  // @ts-expect-error: a refusal has no permit
  result.permit;
  // @ts-expect-error: only a refusal names its rule
  result.rule;
  if (result.allowed) {
    const { permit, retryAfterMs, waitedMs } = result;
    type _ = [
      Expect<Equal<typeof permit, Permit>>,
      Expect<Equal<typeof retryAfterMs, 0>>,
      Expect<Equal<typeof waitedMs, number>>,
    ];
    // @ts-expect-error: nothing refused it
    result.rule;
  } else {
    const { rule, retryAfterMs } = result;
    type _ = [Expect<Equal<typeof rule, string>>, Expect<Equal<typeof retryAfterMs, number>>];
    // @ts-expect-error: nothing was granted
    result.permit;
    // @ts-expect-error: it did not start
    result.waitedMs;
  }
  // @ts-expect-error: a result is read, not written
  result.remaining = 5;
}

export function ofSeveral(result: MultiLimiterResult): void {
  type _ = Expect<Equal<MultiLimiterResult["blockingLimiterId"], string | null>>;
  if (result.allowed) {
    const { blockingLimiterId, retryAfterMs } = result;
    type _ = [Expect<Equal<typeof blockingLimiterId, null>>, Expect<Equal<typeof retryAfterMs, 0>>];
  } else {
    const { blockingLimiterId, retryAfterMs } = result;
    type _ = [Expect<Equal<typeof blockingLimiterId, string>>, Expect<Equal<typeof retryAfterMs, number>>];
  }
}

export function ofComposite(result: CompositeResult<"ip" | "user">): void {
  type _ = Expect<Equal<CompositeResult<"ip">["triggeredBy"], "ip" | "all" | null>>;
  if (result.allowed) {
    const { triggeredBy } = result;
    type _ = Expect<Equal<typeof triggeredBy, null>>;
  } else {
    const { triggeredBy } = result;
    type _ = Expect<Equal<typeof triggeredBy, "ip" | "user" | "all">>;
  }
  const ip = result.results.ip;
  type __ = Expect<Equal<typeof ip, RateLimitResult | undefined>>;
  // @ts-expect-error: no limiter has this name
  result.results.address;
}
