// How long one decision takes, without any store: the pure part of the hot path.
import { earliestStart, takeAll } from "../src/core/decision/decide.ts";
import { freshState, type State, stateCodec, withWriter } from "../src/core/decision/state.ts";
import { concurrencyRule } from "../src/core/rules/concurrency.ts";
import { rateRule } from "../src/core/rules/rate.ts";
import type { Rule } from "../src/core/rules/rule.ts";
import { windowRule } from "../src/core/rules/window.ts";

const margins = { timingMarginMs: 10, reserveAheadMs: 1_000 };
const rate = rateRule({ ratePerSecond: 1_000_000, burst: 1_000, ...margins });
const window = windowRule({ limit: 1_000_000, windowMs: 1_000, ...margins });
const concurrency = concurrencyRule({ maxConcurrent: 100, leaseMs: 10_000 });
const demand = { cost: 1, owner: "bench", permit: 1 };

/** Decides one request after another, each at the moment that the previous one left for it. */
function decideAgain(rules: readonly Rule[]): () => void {
  const { parts: fresh } = freshState(rules, 0);
  let parts = fresh;
  let now = 0;
  return () => {
    const at = earliestStart(rules, parts, now, demand);
    if (at === Infinity) {
      parts = fresh;
      return;
    }
    now = at;
    parts = takeAll(rules, parts, at, now, demand);
  };
}

Deno.bench("decide: a rate (GCRA)", { group: "decide", baseline: true }, decideAgain([rate]));
Deno.bench("decide: a window of 1,000,000", { group: "decide" }, decideAgain([window]));
Deno.bench("decide: a rate and a limit of concurrency", { group: "decide" }, decideAgain([rate, concurrency]));

const NOW = 1_800_000_000_000;
const codec = stateCodec([rate], { reserveAheadMs: 1_000, leaseMs: 10_000, timingMarginMs: 10, clockErrorMs: 0 });
const state: State = { ...freshState([rate], NOW), writers: withWriter([], ["bench-0", 1]) };
const bytes = codec.encode(state);
const json = JSON.parse(new TextDecoder().decode(bytes));
Deno.bench("JSON.stringify of the stored value", { group: "codec", baseline: true }, () => {
  new TextEncoder().encode(JSON.stringify(json));
});
Deno.bench("encode the stored value", { group: "codec" }, () => {
  codec.encode(state);
});
Deno.bench("decode the stored value", { group: "codec" }, () => {
  codec.decode(bytes, NOW);
});
