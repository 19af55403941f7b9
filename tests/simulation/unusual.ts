import { createRandom, type Random } from "../support/random.ts";
import { type LimiterPlan, mostCost, type Scenario, type Times, type Variant } from "./scenario.ts";

/**
 * The same scenario with settings that hardly anybody chooses. They come from a source of their own, so that nothing
 * else of the scenario changes.
 */
export function unusual(scenario: Scenario): Scenario {
  const random = createRandom(scenario.seed ^ 0x0dd5);
  const timingMarginMs = random.chance(0.5) ? random.pick([0, 1, 2, 50]) : scenario.timingMarginMs;
  const limiters = scenario.limiters.map((plan) => unusualLimiter(random, scenario, plan));
  const differ = random.chance(0.5);
  const limits = createRandom(scenario.seed ^ 0x11a17);
  const variants = differ ? [0, 1, 2].map(() => variant(random, scenario, times(limits))) : [];
  // Clocks that are not measured agree to within the timing margin.
  const trust = timingMarginMs / scenario.timingMarginMs;
  const hosts = scenario.clock === "server"
    ? scenario.hosts
    : scenario.hosts.map((host) => ({ ...host, skewMs: host.skewMs * trust }));
  const steps = scenario.steps.map((step) => {
    if (step.kind !== "call") return step;
    // Who wanted as much as there can be still does.
    const before = mostCost(scenario.limiters[step.limiter]!);
    return step.cost === before ? { ...step, cost: mostCost(limiters[step.limiter]!) } : step;
  });
  return { ...scenario, timingMarginMs, limiters, variants, hosts, steps };
}

function unusualLimiter(random: Random, scenario: Scenario, plan: LimiterPlan): LimiterPlan {
  const isBroken = random.chance(0.4);
  const fraction = random.pick([0.1, 0.5, 0.75]);
  const reserveAheadMs = random.chance(0.5) ? random.pick([0, 2_500, 5_000]) : plan.reserveAheadMs;
  const lease = random.pick([50, 100, 200]);
  const leaseMs = random.chance(0.5) && lease >= leastLeaseMs(scenario) ? lease : plan.leaseMs;
  const other = {
    ratePerSecond: random.pick([3, 20, 100, 1_000]),
    burst: random.pick([1, 3, 20]),
  };
  const isAnother = random.chance(0.6) && plan.prefetch > 0;
  // Whoever asks has to be able to get what it asks for.
  const another = isAnother ? [{ ...other, burst: Math.max(other.burst, mostCost(plan)) }] : [];
  const rates = [
    ...plan.rates.map((rate) => isBroken ? { ...rate, burst: rate.burst + fraction } : rate),
    ...another,
  ];
  return { ...plan, rates, reserveAheadMs, leaseMs };
}

function times(random: Random): Times {
  return { amount: random.pick([1, 1, 2, 10]), burst: random.pick([1, 1, 3, 20]) };
}

function variant(random: Random, scenario: Scenario, limits: Times): Variant {
  const shortest = Math.min(...scenario.limiters.map(({ leaseMs }) => leaseMs));
  const lease = random.pick([1, 1, 0.4]);
  return {
    limits,
    reserveAhead: random.pick([1, 0.5, 0.1, 0]),
    lease: lease * shortest >= leastLeaseMs(scenario) ? lease : 1,
    prefetch: random.pick([1, 1, 0.5, 0]),
    backendTimeout: random.pick([1, 1, 0.5]),
  };
}

/** A lease that is renewed three times before it is over, with an answer for each, whatever timers and messages do. */
function leastLeaseMs({ hosts, conditions }: Scenario): number {
  const way = conditions.mostMs + 2 * Math.max(...hosts.map(({ distanceMs = 0 }) => distanceMs));
  return 10 * Math.max(...hosts.map(({ timerLateMs }) => timerLateMs + way));
}
