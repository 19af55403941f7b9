import type { Call } from "./calls.ts";
import type { History } from "./run.ts";
import { profiles } from "./profiles.ts";
import type { LimiterPlan, Step } from "./scenario.ts";

/**
 * Whether anybody waits longer than necessary.
 *
 * **Waste.** While somebody waits without a timeout, the limits are used up: such a period is no longer than what
 * started in it takes at the limits' speed, plus {@link WASTE} of that, plus what {@link overheadMs} and {@link
 * troubleMs} add.
 *
 * **Starvation.** A caller that is the first of its process to wait is not overtaken for more than {@link
 * MOST_LOST_TURNS} turns by callers of other processes that came later and do not reserve farther ahead ({@link
 * reachOf}). Between processes, every turn is a race, in which the winner takes what is there ({@link turnOf}). One
 * process of four loses this many of them in a row less than once in ten million times.
 */
export function waste(history: History, plan: LimiterPlan, calls: readonly Call[]): string[] {
  return busyTimes(calls).flatMap(({ from, to, starts }) => {
    const least = leastTimeMs(plan, starts, from, to);
    const allowed = least * wasteFactor(history, plan) + overheadMs(history, plan, starts.length) +
      troubleMs(history, plan, calls, from, to);
    if (to - from <= allowed) return [];
    return [
      `wasted: somebody waited from ${from} to ${to}, which is ${to - from} ms for ${starts.length} starts that take ` +
      `${least} ms, where ${allowed} ms are allowed`,
    ];
  });
}

/** See {@link waste}. */
export function starvation(
  { scenario: { hosts, handsOver, profile } }: History,
  plan: LimiterPlan,
  calls: readonly Call[],
): string[] {
  // Of those who do not reserve, the one that is nearest and whose timers are the earliest wins each turn, for as long as
  // it has a crowd of callers.
  const places = new Set(hosts.map(({ timerLateMs, distanceMs = 0 }) => `${timerLateMs} ${distanceMs}`));
  const isUnequal = profiles[profile].callers === "crowd" && places.size > 1;
  const isScattered = hosts.some(({ distanceMs = 0 }) => distanceMs > 0);
  const most = (isScattered && !handsOver ? MOST_LOST_TURNS_FAR_AWAY : MOST_LOST_TURNS) * turnOf(plan);
  const judged = calls.filter((call) => isPatient(call) && !(isUnequal && reachOf(call) === 0));
  return judged.flatMap((call) => {
    const { id, process, askedAt, answeredAt } = call;
    const own = calls.filter((other) => other.process === process && other.startedAt! < answeredAt);
    const heardAt = Math.max(askedAt, ...own.map(({ startedAt }) => startedAt!)) + HEARD_AFTER_MS;
    const overtakings = calls.filter((other) =>
      other.process !== process && other.askedAt > askedAt && other.startedAt! > heardAt &&
      other.startedAt! < answeredAt && reachOf(other) <= reachOf(call)
    ).length;
    if (overtakings <= most) {
      return [];
    }
    return [
      `starved: call ${id} of ${process.name} waited from ${askedAt} to ${answeredAt}, and ${overtakings} overtook it`,
    ];
  });
}

/** How far ahead the process of a call reserves. Who reserves farther than others comes before them. */
function reachOf({ plan: { limiter }, process: { scenario } }: Call): number {
  return scenario.limiters[limiter]!.reserveAheadMs; // calls name limiters of their scenario
}

/** How many may start when a process has its turn. */
function turnOf({ rates, windows, maxConcurrent, reserveAheadMs }: LimiterPlan): number {
  const most = [
    ...rates.map(({ ratePerSecond, burst }) =>
      Math.max(burst, ratePerSecond * reserveAheadMs / 1_000 / TURNS_PER_RESERVE)
    ),
    ...windows.map(({ limit }) => limit),
    ...maxConcurrent === undefined ? [] : [maxConcurrent],
  ];
  return Math.max(1, Math.min(...most));
}

/** The part that is lost to slots that begin a little late. */
const WASTE = 0.03;
/** Timers that are later than a rate allows miss about every second slot, and sometimes several in a row. */
const WASTE_WITH_LATE_TIMERS = 4;
/** A window counts for longer if timers are late, once that is known. */
const WASTE_OF_WINDOWS = 0.25;
/** The margin that the narrowest rule keeps, in milliseconds. */
const LEAST_MARGIN_MS = 2;
/**
 * The time for opening the store, during which the time is asked for eight times, and for the races of all callers that
 * come at first.
 */
const START_MS = 150;
/** How many messages, one after the other, it takes to decide, or to hand a permit on, with lost races and hints. */
const MESSAGES_OF_A_CONVERSATION = 12;
/** How many more it takes when requests are handed to the writer. */
const MESSAGES_OF_HANDING_OVER = 4;
/** An answer from the writer that takes longer than this is not waited for, and what it grants is lost. */
const PATIENCE_MS = 50;
/** The longest pause after a lost race, as set for processes of the simulation. */
export const RETRY_MS = 10;
/** After a failure, and when a hint was lost, everybody looks again within this time. */
const LOOK_AGAIN_MS = 1_000;
/** For this long a permit is left to a process that has waited longer, even if that process is dead. */
const MARK_MS = 3_000;
/** Others hear that somebody waits for a permit after this long at the latest. */
const HEARD_AFTER_MS = 600;
const MOST_LOST_TURNS = 60;
/**
 * A process that is far away and can hand nothing over hears late of each write, and loses turns to others that have
 * written again.
 */
const MOST_LOST_TURNS_FAR_AWAY = 180;
/** In how many steps a process reserves what it may reserve, at least. */
const TURNS_PER_RESERVE = 16;

/** A period in which somebody always waited, without a timeout, for one key of one limiter. */
interface BusyTime {
  readonly from: number;
  readonly to: number;
  /** Everything that started in it, or went on running in it, whoever the caller. */
  readonly starts: readonly Call[];
}

/** Whether the caller waited for as long as it took. */
function isPatient({ plan, ending }: Call): boolean {
  return plan.timeoutMs === Infinity && plan.abortAfterMs === Infinity && ending === "granted";
}

function busyTimes(calls: readonly Call[]): BusyTime[] {
  const waits = calls.filter(isPatient).map(({ askedAt, answeredAt }) => ({ from: askedAt, to: answeredAt }));
  const merged: { from: number; to: number }[] = [];
  for (const { from, to } of waits.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged.map(({ from, to }) => ({
    from,
    to,
    starts: calls.filter(({ startedAt = Infinity, endedAt }) => startedAt <= to && endedAt >= from),
  }));
}

/** How long these calls keep the limits busy if nothing is wasted: the sum of what each limit takes. */
function leastTimeMs(plan: LimiterPlan, calls: readonly Call[], from: number, to: number): number {
  const work = calls.reduce(
    (sum, { startedAt, endedAt }) => sum + Math.max(0, Math.min(endedAt, to) - Math.max(startedAt!, from)),
    0,
  );
  return calls.reduce((sum, call) => sum + slotMs(plan, call), 0) +
    (plan.maxConcurrent === undefined ? 0 : work / plan.maxConcurrent);
}

/** How long one call keeps rates and windows busy: of calls that cost 2, a window of 3 holds one. */
function slotMs({ rates, windows }: LimiterPlan, { plan: { cost } }: Call): number {
  return rates.reduce((sum, { ratePerSecond }) => sum + 1_000 * cost / ratePerSecond, 0) +
    windows.reduce((sum, { limit, windowMs }) => sum + windowMs / Math.max(1, Math.floor(limit / cost)), 0);
}

function wasteFactor({ scenario: { hosts } }: History, { rates, windows }: LimiterPlan): number {
  const limitsTime = rates.length + windows.length > 0;
  if (!limitsTime || hosts.every(({ timerLateMs }) => timerLateMs <= LEAST_MARGIN_MS)) return 1 + WASTE;
  return rates.length > 0 ? WASTE_WITH_LATE_TIMERS : 1 + WASTE_OF_WINDOWS;
}

/** The time from slot to slot. */
function leastSlotMs({ rates, windows }: LimiterPlan): number {
  return Math.max(
    0,
    ...rates.map(({ ratePerSecond }) => 1_000 / ratePerSecond),
    ...windows.map(({ limit, windowMs }) => windowMs / limit),
  );
}

/** The time that is needed besides the limits when nothing goes wrong. */
function overheadMs({ scenario }: History, plan: LimiterPlan, starts: number): number {
  const { conditions: { mostMs }, hosts } = scenario;
  const way = mostMs + 2 * Math.max(...hosts.map(({ distanceMs = 0 }) => distanceMs));
  const hop = Math.max(way, ...hosts.map(({ timerLateMs }) => timerLateMs));
  // What came earlier may have filled a window, or the bucket of a rate.
  const before = Math.max(
    0,
    ...plan.windows.map(({ windowMs }) => windowMs),
    ...plan.rates.map(({ ratePerSecond, burst }) => 1_000 * burst / ratePerSecond),
  );
  const messages = MESSAGES_OF_A_CONVERSATION + (scenario.handsOver ? MESSAGES_OF_HANDING_OVER : 0);
  const conversation = messages * hop;
  // A conversation about a slot is hidden by what is reserved ahead, unless slots come faster than messages, so that
  // callers that come one after the other wait only for messages. One about a permit cannot be hidden.
  const slot = leastSlotMs(plan);
  const reserveAheadMs = plan.reserveAheadMs *
    Math.min(1, ...scenario.variants.map(({ reserveAhead }) => reserveAhead));
  const perStart = plan.maxConcurrent === undefined
    ? Math.max(0, conversation - reserveAheadMs, slot < 2 * hop ? conversation / 2 : 0)
    : conversation / plan.maxConcurrent;
  const afterRefusals = scenario.cluster.refuses > 0 ? RETRY_MS + conversation / 2 : 0;
  // Each process may have taken slots ahead that nobody there asks for in the end.
  const ahead = plan.prefetch * scenario.hosts.length * slot;
  return START_MS + 2 * conversation + before + ahead + starts * (perStart + afterRefusals);
}

/** The time that may be lost to everything that went wrong until then. */
function troubleMs(history: History, plan: LimiterPlan, calls: readonly Call[], from: number, to: number): number {
  const { scenario, mishaps } = history;
  const { steps, backendTimeoutMs } = scenario;
  const limitsPermits = plan.maxConcurrent !== undefined;
  const silence = backendTimeoutMs + (limitsPermits ? LOOK_AGAIN_MS : 0);
  const lease = limitsPermits ? Math.max(plan.leaseMs, MARK_MS) + LOOK_AGAIN_MS : 0;
  const ofStep = (step: Step) => {
    switch (step.kind) {
      case "pause":
      case "cut":
      case "storm":
        return step.ms + lease + plan.reserveAheadMs + silence;
      case "crash":
      case "close":
        return lease + plan.reserveAheadMs;
      case "stop":
      case "freeze":
        return step.ms + silence + lease + plan.reserveAheadMs;
      case "lose":
        // What was released is held again until the lease is over.
        return silence + lease;
      default:
        return 0;
    }
  };
  // What the writer decided for others is lost with its answer.
  const lost = scenario.handsOver ? mishaps.filter(({ at, lateMs }) => lateMs >= PATIENCE_MS && at <= to) : [];
  const handedOver = lost.reduce((sum, { at }) => {
    const waiting = calls.filter(({ askedAt, answeredAt }) => askedAt <= at && answeredAt >= at);
    return sum + waiting.reduce((slots, call) => slots + slotMs(plan, call), 0);
  }, 0);
  const reach = (ms: number) => (at: number) => at <= to && at + ms >= from;
  const ofSteps = steps.reduce((sum, step) => sum + (reach(ofStep(step))(step.at) ? ofStep(step) : 0), 0);
  const ofMishaps = mishaps.reduce((sum, { at, lateMs }) => {
    const ms = Math.min(lateMs, silence + (lateMs === Infinity ? lease : 0));
    return sum + (reach(ms)(at) ? ms : 0);
  }, 0);
  // Slots that were not used come back only if nobody has reserved behind them.
  // What the store failed may have been granted all the same.
  const unused = calls.filter(({ askedAt }) => askedAt <= to).reduce((sum, call) => {
    return sum + slotMs(plan, call) * (call.failures + (call.startedAt === undefined ? 1 : 0));
  }, 0);
  return ofSteps + ofMishaps + unused + handedOver;
}
