import { concurrencyExcess, rateExcess, type Start, windowExcess } from "../support/oracles.ts";
import type { Call } from "./calls.ts";
import type { History } from "./run.ts";
import { agrees, type LimiterPlan, mostGenerous, type Scenario, timesAsMuch } from "./scenario.ts";
import { storms } from "./traffic.ts";
import { starvation, waste } from "./waiting.ts";

/**
 * The judge knows the true time of every start and end. What it holds against the limiters, and why:
 *
 * **Rates.** In any period `w`, at most `burst + rate * (w + l + d)`. `l` is how much later than the moment it counts
 * for a start may be ({@link latenessMs}, as README says). `d` is how much the clocks of the processes differed ({@link
 * clockSpreadMs}), as they really did and not as they might: well below a millisecond if the server's clock is measured
 * on a quick network, and up to the timing margin with local clocks.
 *
 * **Windows.** At most `limit` in any period of `windowMs - d`: the log already includes the lateness.
 *
 * **Concurrency.** At most `maxConcurrent` at any moment. A caller that loses a permit works until it hears so, which
 * its timer says up to `d` and the lateness of timers after the others heard it ({@link noticeMs}). A process that
 * stands still does not work.
 *
 * **Other limits.** All together keep the limits of the most generous process. Of what others have reserved when they
 * first meet, they do not know the moments, which may add what is reserved ahead to `l`.
 *
 * **Lost data.** What a server has forgotten is granted again. Starts that it may have forgotten ({@link FORGOTTEN_MS})
 * do not count, and all others keep the limits exactly; and all of them together keep the limits as many times over as
 * data was lost.
 *
 * **Messages.** What is sent is in proportion to what is done ({@link storms}).
 *
 * **Degraded starts.** With `local`, each process keeps the limits by itself. If nothing went wrong, there are none.
 */
export function judge(history: History): readonly string[] {
  const { calls, processes } = history;
  return [
    ...history.problems,
    ...calls.flatMap(({ problem }) => problem ?? []),
    ...processes.flatMap(({ name, clockError: { unclaimedMs } }) =>
      unclaimedMs > CLOCK_ROUNDING_MS ? [`the clock of ${name} is off by ${unclaimedMs} ms more than it says`] : []
    ),
    ...calls.flatMap((call) => lateAnswer(history, call) ?? []),
    ...storms(history),
    ...groupsOf(history).flatMap(({ plan, name, calls }) => {
      // Others get what those with more generous limits leave.
      const finds = agrees(history.scenario) ? [excesses, waste, starvation] : [excesses];
      return finds.flatMap((find) => find(history, plan, calls)).map((text) => `${name}: ${text}`);
    }),
  ];
}

/** How far a clock may be off because of rounding: times since 1970 have a resolution of 1/4096 ms. */
const CLOCK_ROUNDING_MS = 0.001;

/** How much longer than its own timeout a caller may wait for a store that is silent, plus what timers add. */
const GRACE_MS = 41;
/**
 * A caller that does not want to wait is answered within this many times the backend's timeout: one for each message,
 * and as many again for the races that it may lose to each other process.
 */
const MESSAGES_OF_A_TRY = 6;
/** How long after a loss of data starts may have been granted by what was lost, besides what was reserved ahead. */
const FORGOTTEN_MS = 1_000;

/** Opening the store takes up to this long on a quick network: a caller that waits for less may see it fail. */
const OPENING_MS = 50;

/** The calls on one key of one limiter. */
interface Group {
  readonly plan: LimiterPlan;
  readonly name: string;
  readonly calls: readonly Call[];
}

function groupsOf({ scenario, calls }: History): Group[] {
  const groups = new Map<string, Group & { readonly calls: Call[] }>();
  for (const call of calls) {
    const plan = scenario.limiters[call.plan.limiter]!; // calls name limiters of their scenario
    const name = call.plan.key === undefined ? plan.id : `${plan.id}:${call.plan.key}`;
    const group = groups.get(name) ?? { plan, name, calls: [] };
    groups.set(name, group);
    group.calls.push(call);
  }
  return [...groups.values()];
}

/** How much the clocks of all processes differed at most. */
function clockSpreadMs({ processes }: History): number {
  const least = Math.min(...processes.map(({ clockError }) => clockError.leastMs));
  const most = Math.max(...processes.map(({ clockError }) => clockError.mostMs));
  return Math.max(0, most - least) + CLOCK_ROUNDING_MS;
}

/** What the allowance for late timers is at least, however small the timing margin, in milliseconds. */
const LEAST_ALLOWANCE_MS = 2;

/** How much later than the moment it was granted for a start may be, under a rate. */
function latenessMs(ratePerSecond: number, { timingMarginMs }: Scenario): number {
  return Math.max(800 / ratePerSecond, Math.max(LEAST_ALLOWANCE_MS, timingMarginMs) / 2);
}

/** How long after its lease has run out a holder is told so. */
function noticeMs(history: History): number {
  return clockSpreadMs(history) + Math.max(...history.scenario.hosts.map(({ timerLateMs }) => timerLateMs)) + 0.01;
}

/** How much farther ahead a call that was passed over reserves, if only rates are limited. */
function overdueMs({ rates, windows, maxConcurrent }: LimiterPlan, calls: readonly Call[]): number {
  if (windows.length > 0 || maxConcurrent !== undefined) return 0;
  const cost = Math.max(0, ...calls.map(({ plan }) => plan.cost));
  return Math.max(...rates.map(({ ratePerSecond }) => 1_000 * cost / ratePerSecond));
}

function excesses(history: History, plan: LimiterPlan, calls: readonly Call[]): string[] {
  const found: string[] = [];
  const started = calls.filter((call) => call.startedAt !== undefined);
  const shared = started.filter(({ degraded }) => !degraded);
  const { losses, scenario } = history;
  const reservedMs = plan.reserveAheadMs + overdueMs(plan, calls);
  const remembered = shared.filter(({ startedAt }) =>
    !losses.some(({ since, at }) =>
      startedAt! >= since && startedAt! <= at + reservedMs + FORGOTTEN_MS + plan.leaseMs / 3
    )
  );
  found.push(...excess(history, plan, remembered, 1));
  if (losses.length > 0) found.push(...excess(history, plan, shared, losses.length + 1));
  if (plan.onFailure === "local") {
    for (const process of history.processes) {
      const alone = started.filter((call) => call.degraded && call.process === process);
      found.push(...excess(history, plan, alone, 1).map((text) => `in ${process.name} alone: ${text}`));
    }
  }
  if (scenario.profile === "calm" || scenario.profile === "steady") {
    for (const { id, plan, degraded, failures, ending } of calls) {
      const isHurried = plan.timeoutMs > 0 && plan.timeoutMs <= OPENING_MS;
      if (!isHurried && (degraded || failures > 0 || ending === "failed")) {
        found.push(`call ${id} failed, and nothing is wrong`);
      }
    }
  }
  return found;
}

function excess(history: History, plan: LimiterPlan, calls: readonly Call[], times: number): string[] {
  const starts = calls.map((call) => startOf(history, call));
  const spread = clockSpreadMs(history);
  const { amount, burst } = mostGenerous(history.scenario);
  const unknownMs = agrees(history.scenario) ? 0 : plan.reserveAheadMs + overdueMs(plan, calls);
  const { rates, windows, maxConcurrent } = timesAsMuch(plan, { amount: amount * times, burst: burst * times });
  return [
    ...rates.map((rate, i) =>
      rateExcess(starts, rate, latenessMs(plan.rates[i]!.ratePerSecond, history.scenario) + spread + unknownMs)
    ),
    ...windows.map(({ limit, windowMs }) => windowExcess(starts, { limit, windowMs: windowMs - spread })),
    maxConcurrent === undefined ? undefined : concurrencyExcess(starts, maxConcurrent),
  ].flatMap((text) => text ?? []);
}

/** What a call did, as a limit sees it. */
function startOf(history: History, call: Call): Start {
  const { plan: { cost }, startedAt, endedAt, lost, process: { host } } = call;
  const at = startedAt!; // only calls that started are asked for
  // What ended when its process woke up, or was killed before it did, has done nothing since the process stood still.
  const slept = host.pauses.find(({ from, to }) => from >= at && endedAt >= from && endedAt <= to + 0.01);
  return { at, cost, until: Math.max(at, slept?.from ?? (lost ? endedAt - noticeMs(history) : endedAt)) };
}

/** A call that was answered too late. */
function lateAnswer(history: History, call: Call): string | undefined {
  const { scenario } = history;
  const { id, plan, askedAt, abortedAt, answeredAt, ending, process: { host } } = call;
  if (ending === "died") return undefined;
  if (ending === undefined) return `call ${id} of ${host.name}, asked at ${askedAt}, was never answered`;
  const tries = plan.timeoutMs === 0;
  const patience = tries
    ? MESSAGES_OF_A_TRY * scenario.hosts.length * scenario.backendTimeoutMs
    : plan.timeoutMs + GRACE_MS;
  const timers = 4 * scenario.hosts[plan.process]!.timerLateMs + clockSpreadMs(history) + patience / 1_000;
  let latest = Math.min(askedAt + patience + timers, abortedAt + 0.01);
  for (const { from, to } of host.pauses) if (from <= latest && to >= askedAt) latest += to - Math.max(from, askedAt);
  if (answeredAt <= latest) return undefined;
  return `call ${id} of ${host.name}, asked at ${askedAt}, was ${ending} at ${answeredAt}, and had to be by ${latest}`;
}
