import type { Writer } from "../decision/state.ts";
import type { Work } from "../decision/work.ts";
import { type Identity, isNotApplied, type Ledger } from "../store/ledger.ts";
import type { Store } from "../store/store.ts";
import type { Bounded, TimeLimit } from "../store/time_limit.ts";
import { Trips } from "../store/trips.ts";
import type { Respond } from "./desk.ts";
import { createFollowing } from "./following.ts";
import { createGuests, type Guest, successor, type Visit } from "./guests.ts";
import type { Advice, Answer, ForeignWork, HandOver, Verdict } from "./hand_over.ts";

/** A guest, and how its work was decided. */
export interface DecidedGuest {
  readonly guest: Guest;
  readonly verdict: Verdict;
}

/** The result of asking another process: a verdict, that nothing was done, or that nobody knows. */
export type Heard =
  | { readonly kind: "decided"; readonly verdict: Verdict }
  | { readonly kind: "declined" }
  | { readonly kind: "unknown" };

/**
 * How the processes that want one key take turns in writing it. A process that loses a race hands its work to the
 * winner, which decides it together with its own; and a process that has decided for others for a while lets one of
 * them do so.
 */
export interface Turns {
  /** Whether work from others waits here. */
  readonly hasGuests: boolean;
  /** The process that is to decide in place of this one, if any. */
  leader(now: number): string | undefined;
  /**
   * How long it takes until the leader's decisions are known here; `undefined` if there is no leader, or that is not
   * known.
   */
  answers(now: number): Trips | undefined;
  /** Another process hands its work over. Calls `respond` with the answer once there is one. */
  receive(foreign: ForeignWork, respond: Respond): void;
  /** Sends all guests away. */
  dismiss(): void;
  /**
   * A race was lost: the winner decides from now on, unless it lately failed to answer. Guests are told where to go.
   */
  lose(winner: string, now: number): void;
  /**
   * Something was released: this process writes for itself from now on, unless it has just lost a race for something
   * released.
   */
  hear(now: number): void;
  /** Hands work to the leader. */
  ask(leader: string, work: Work): Promise<Heard>;
  /** The leader did not answer, or its verdict does not fit the work: it is not asked for a while. */
  disbelieve(): void;
  /** The guests that wait here. */
  guests(now: number, writers: readonly Writer[]): Visit;
  /** What was decided for guests is written. */
  served(decided: readonly DecidedGuest[]): void;
  /** Tells the guests that were served what was decided. */
  tell(): void;
  /** The store has failed: nobody knows what became of the work of others. */
  fail(): void;
}

/** What {@link createTurns} needs. */
export interface TurnsOptions {
  readonly store: Store;
  readonly ledger: Pick<Ledger, "key" | "tripMs" | "suspect">;
  readonly identity: Identity;
  readonly handOver: HandOver;
  /** Bounds the questions to other processes, whatever {@link Peers} make of their time limit. */
  readonly limit: TimeLimit;
  readonly backendTimeoutMs: number;
  /** How far the clocks of two processes may differ, in milliseconds. */
  readonly clockErrorMs: number;
  /** Called when a guest has arrived. */
  readonly onGuest: (now: number) => void;
}

/** A process that decides for others lets one of them do so after this long, so that nobody is always served first. */
const LEAD_MS = 50;
/**
 * A guest that waits for its answer this many times as long as this process would is far from the store. It does not
 * become the writer: everybody would then wait for its slow writes.
 */
const TIMES_FARTHER = 4;
/**
 * A process that lost a race for what was released does not race for it again for this many round trips, but at most
 * for this long.
 */
const TRIPS_OF_SHYNESS = 30;
const LONGEST_SHYNESS_MS = 1_000;
/** How often in a row a process may be told that another one writes by now. */
const MOST_HOPS = 3;
/**
 * A process that handed its work to another one waits for the answer for this long, or as long as this many answers
 * took.
 */
const LEAST_PATIENCE_MS = 50;
const TRIPS_OF_PATIENCE = 8;
/** To the store and back, and the answer. */
const TRIPS_TO_ANSWER = 2;
/** To the writer, the write that it has begun, the next one, and the answer. */
const TRIPS_OF_HAND_OVER = 4;

const SILENCE: Bounded = { late: () => new Error("no answer in time") };

/** A process that waits for an answer needs time to write by itself afterwards. */
const longestPatienceMs = (backendTimeoutMs: number) => backendTimeoutMs / 2;

/** Whether an answer can come in time. A process that cannot wait for it would never hear what it was granted. */
export function canWaitForAnswer({ tripMs }: Pick<Ledger, "tripMs">, backendTimeoutMs: number): boolean {
  return TRIPS_OF_HAND_OVER * tripMs <= longestPatienceMs(backendTimeoutMs);
}

/** The {@link Turns} of one process on one key, in which nobody has lost a race yet. */
export function createTurns(options: TurnsOptions): Turns {
  const { store: { peers, clock }, limit, ledger, identity, handOver, backendTimeoutMs, clockErrorMs, onGuest } =
    options;
  const following = createFollowing();
  const guests = createGuests();
  /** The guests that were served, but not told so yet. */
  const untold: DecidedGuest[] = [];
  /** Since when this process decides for others. */
  let leadsSince = Infinity;
  /** The process that was chosen to write now, and may not know it yet. */
  let told: string | undefined;
  /** How often in a row this process was told that another one writes. */
  let hops = 0;
  /** Whether this process writes for itself because something was released. */
  let isEager = false;
  /** Until when it does not do so. */
  let shyUntil = -Infinity;
  /** How long asking takes, and how much of that comes after the decision. */
  const asks = new Trips();
  const answers = new Trips();
  const patienceMs = () => {
    const ms = Math.max(LEAST_PATIENCE_MS, TRIPS_OF_PATIENCE * Math.max(ledger.tripMs, asks.ms));
    return Math.min(ms, longestPatienceMs(backendTimeoutMs));
  };

  function follow(leader: string, now: number): void {
    following.follow(leader, now, ledger.tripMs);
    sendOn(now);
  }

  /**
   * If another process decides, guests are told where to go: work that was handed over here is not handed over again.
   */
  function sendOn(now: number): void {
    const leader = following.leader(now);
    if (leader === undefined) return;
    leadsSince = Infinity;
    guests.dismiss(handOver.encodeRefusal({ ask: leader }));
  }

  /** The process that was asked no longer writes, or makes room because it can decide only by its own rules. */
  function declined(advice: Advice, now: number): void {
    ledger.suspect();
    if (advice === "write" || advice?.ask === identity.id) following.lead();
    else if (advice && hops++ < MOST_HOPS) follow(advice.ask, now);
    else {
      hops = 0;
      following.failed(now);
    }
  }

  /** A process that was served hears which one writes from now on, and need not ask the previous one. */
  function passedOn({ next }: Verdict, now: number): void {
    if (next === identity.id) return following.lead();
    if (next === undefined) return sendOn(now);
    told = next;
    follow(next, now);
  }

  return {
    get hasGuests() {
      return guests.size > 0;
    },
    leader: (now) => following.leader(now),
    answers: (now) => following.leader(now) === undefined || answers.ms === 0 ? undefined : answers,
    receive(foreign, respond) {
      const now = clock.now();
      if (foreign.isYourTurn) following.lead();
      const leader = following.leader(now);
      if (leader !== undefined) respond(handOver.encodeRefusal({ ask: leader }));
      // Work that has come before has been decided, and its answer is on its way.
      else if (guests.add({ ...foreign, respond })) onGuest(now);
    },
    dismiss: () => guests.dismiss(handOver.encodeRefusal()),
    lose(winner, now) {
      if (isEager) shyUntil = now + Math.min(TRIPS_OF_SHYNESS * ledger.tripMs, LONGEST_SHYNESS_MS);
      isEager = false;
      follow(winner, now);
    },
    hear(now) {
      if (now < shyUntil) return;
      isEager = true;
      following.lead();
    },
    async ask(leader, work) {
      const sentAt = clock.now();
      const waitsMs = patienceMs();
      // A process that is sent from one to the next is near none of them: the one that is asked now has to decide.
      const isYourTurn = leader === told || hops > 0;
      told = undefined;
      // Even by the clock of the process that is asked, nothing is decided any more once this process goes on by
      // itself.
      const until = sentAt + waitsMs - Math.min(clockErrorMs, waitsMs / 2);
      const envelope = { key: ledger.key, number: identity.next(), until, isYourTurn };
      let answer: Answer;
      try {
        const message = handOver.encodeWork({ ...envelope, work });
        const asking = peers!.ask(leader, message, waitsMs); // nobody is followed without them
        answer = handOver.decodeAnswer(await limit.bound(asking, waitsMs, SILENCE));
      } catch (error) {
        if (isNotApplied(error)) answer = { kind: "declined", advice: undefined };
      }
      const now = clock.now();
      if (answer === undefined) return { kind: "unknown" };
      if (answer.kind === "declined") {
        declined(answer.advice, now);
        return { kind: "declined" };
      }
      hops = 0;
      if (now - sentAt <= waitsMs) {
        asks.took(now - sentAt, now);
        // Clocks disagree a little, and peers may say anything.
        const decidedAt = Math.min(Math.max(sentAt, answer.verdict.terms.now), now);
        answers.took(now - decidedAt, now);
      }
      following.answered(now, ledger.tripMs);
      passedOn(answer.verdict, now);
      return answer;
    },
    disbelieve: () => following.failed(clock.now()),
    guests(now, writers) {
      // A grant that a process hears of too late is lost.
      const answerAt = now + TRIPS_TO_ANSWER * ledger.tripMs;
      for (const { respond } of guests.leave(answerAt, writers)) respond(handOver.encodeRefusal());
      const { all } = guests;
      if (now - leadsSince < LEAD_MS) return { all, next: undefined };
      const latest = now + TIMES_FARTHER * patienceMs();
      return { all, next: successor(all.filter(({ until }) => until <= latest), writers) };
    },
    served(decided) {
      if (decided.length === 0) return;
      const now = clock.now();
      guests.remove(decided.map(({ guest }) => guest));
      for (const one of decided) {
        // The process that writes from now on is told before the others ask it.
        if (one.verdict.next === one.guest.work.owner) untold.unshift(one);
        else untold.push(one);
      }
      if (leadsSince === Infinity) leadsSince = now;
      passedOn(decided[0]!.verdict, now); // all say the same
    },
    tell() {
      for (const { guest, verdict } of untold.splice(0)) guest.respond(handOver.encodeVerdict(verdict));
    },
    fail: () => guests.dismiss(),
  };
}
