import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryKv } from "../../../src/adapters/memory.ts";
import { freshState, stateCodec } from "../../../src/core/decision/state.ts";
import type { Work } from "../../../src/core/decision/work.ts";
import { createHandOver, type ForeignWork } from "../../../src/core/hand_over/hand_over.ts";
import { createTurns } from "../../../src/core/hand_over/turns.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import { createTimeLimit } from "../../../src/core/store/time_limit.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";
import { TERMS } from "../../support/rule_terms.ts";

const RULES = [rateRule({ ratePerSecond: 10, burst: 5, timingMarginMs: 10 })];
const KEY = "api";
const PATIENCE_MS = 1_000;

function workOf(owner: string): Work {
  const nothing = { undos: [], requests: [], held: undefined, marks: false, isMarked: false, isOverdue: false };
  return { owner, leaseMs: 1_000, firstPermit: 0, since: 0, lead: 0, slack: 0, restraint: 0, ...nothing };
}

/** The turns of the process "a", whose questions are answered by hand. */
function turnsOfA(tripMs = 1) {
  const clock = createVirtualClock();
  const codec = stateCodec(RULES, TERMS);
  const handOver = createHandOver(RULES, codec);
  const asked: { readonly address: string; readonly message: Uint8Array; answer(bytes: Uint8Array): void }[] = [];
  const peers = {
    serve: () => () => {},
    ask(address: string, message: Uint8Array) {
      return new Promise<Uint8Array>((answer) => asked.push({ address, message, answer }));
    },
  };
  const nothing = () => Promise.resolve();
  const store = { kv: memoryKv(clock), peers, clock, open: nothing, close: nothing };
  let numbers = 0;
  const identity = { id: "a", next: () => ++numbers };
  const ledger = { key: KEY, tripMs, suspect() {} };
  const turns = createTurns({
    store,
    ledger,
    limit: createTimeLimit(clock),
    identity,
    handOver,
    backendTimeoutMs: 2_000,
    clockErrorMs: 2,
    onGuest: () => {},
  });
  /** Another process comes with its work. Resolves to whom it is sent. */
  const visit = (owner: string, patienceMs = PATIENCE_MS): Promise<string | undefined> => {
    const work = workOf(owner);
    const foreign: ForeignWork & { readonly work: Work } = {
      key: KEY,
      work,
      number: 1,
      until: clock.now() + patienceMs,
      isYourTurn: false,
    };
    return new Promise((resolve) => {
      turns.receive(foreign, (bytes) => {
        const answer = handOver.decodeAnswer(bytes);
        const advice = answer?.kind === "declined" ? answer.advice : undefined;
        resolve(typeof advice === "object" ? advice.ask : undefined);
      });
    });
  };
  return { clock, handOver, turns, asked, visit };
}

function verdictOf(now: number, next?: string) {
  return {
    state: freshState(RULES, now),
    terms: { now, horizon: now + 1_000, isFresh: true },
    ...{ granted: 0, dealtWith: 0, lastAt: 0, next },
  };
}

test("a guest that comes while a question is on its way is sent on, as soon as the answer says who writes", async () => {
  const ANSWERS: readonly (readonly [to: string, answer: (setting: ReturnType<typeof turnsOfA>) => Uint8Array])[] = [
    ["b", ({ handOver, clock }) => handOver.encodeVerdict(verdictOf(clock.now()))],
    ["d", ({ handOver, clock }) => handOver.encodeVerdict(verdictOf(clock.now(), "d"))],
    ["d", ({ handOver }) => handOver.encodeRefusal({ ask: "d" })],
  ];
  for (const [to, answer] of ANSWERS) {
    const setting = turnsOfA();
    const { clock, turns, asked, visit } = setting;
    turns.lose("b", clock.now());
    await clock.advance(95);
    const asking = turns.ask("b", workOf("a"));
    await clock.advance(10);
    assertEquals(turns.leader(clock.now()), undefined);
    const sentTo = visit("c");
    assert(turns.hasGuests);
    assertEquals(asked.map(({ address }) => address), ["b"]);
    asked[0]!.answer(answer(setting));
    await asking;
    assertEquals(turns.leader(clock.now()), to);
    assertEquals(turns.hasGuests, false);
    assertEquals(await sentTo, to);
  }
});

test("who was served asks the next writer itself, and says that it is the next one; who is that asks nobody", async () => {
  for (const [next, leader] of [["d", "d"], ["a", undefined]] as const) {
    const { clock, handOver, turns, asked } = turnsOfA();
    turns.lose("b", clock.now());
    const asking = turns.ask("b", workOf("a"));
    asked[0]!.answer(handOver.encodeVerdict(verdictOf(clock.now(), next)));
    await asking;
    assertEquals(turns.leader(clock.now()), leader);
    if (leader === undefined) continue;
    void turns.ask(leader, workOf("a"));
    const question = handOver.decodeWork(asked[1]!.message);
    assertEquals([asked[1]!.address, question?.work && question.isYourTurn], [leader, true]);
  }
});

test("the next writer hears that it is before the others do, who ask it at once", () => {
  const { clock, turns } = turnsOfA();
  const told: string[] = [];
  const guestOf = (owner: string) => ({
    ...{ key: KEY, work: workOf(owner), number: 1, until: clock.now() + PATIENCE_MS, isYourTurn: false },
    respond: () => told.push(owner),
  });
  turns.served(["b", "c", "d"].map((owner) => ({ guest: guestOf(owner), verdict: verdictOf(clock.now(), "c") })));
  turns.tell();
  assertEquals([told, turns.leader(clock.now())], [["c", "b", "d"], "c"]);
});

test("who would hear of a decision too late is told at once that there will be none", async () => {
  const { clock, turns, visit } = turnsOfA();
  const owners = () => turns.guests(clock.now(), []).all.map(({ work: { owner } }) => owner);
  const told: string[] = [];
  for (const [owner, patienceMs] of [["b", 2], ["c", 2.5], ["d", 100]] as const) {
    void visit(owner, patienceMs).then(() => told.push(owner));
  }
  // To the store and back, and to whoever asked, at a millisecond each.
  assertEquals(owners(), ["c", "d"]);
  await clock.advance(1);
  assertEquals(told, ["b"]);
  assertEquals(owners(), ["d"]);
  await clock.advance(1);
  assertEquals(told, ["b", "c"]);
});

test("who has lost a race for what was released does not race for it again for 30 round trips, nor for more than 1 s", () => {
  for (const [tripMs, shyMs] of [[1, 30], [10, 300], [100, 1_000]] as const) {
    const { turns } = turnsOfA(tripMs);
    /** Whether it races for what is released now, although it follows another process. */
    const races = (now: number) => {
      turns.lose("b", now);
      turns.hear(now);
      return turns.leader(now) === undefined;
    };
    turns.lose("b", 0);
    turns.hear(0);
    assertEquals(turns.leader(0), undefined, "it has not lost any so far");
    // It loses this one, and the next ones while it does not race for what is released.
    assertEquals([races(1), races(shyMs / 2), races(shyMs)], [false, false, false]);
    assertEquals(races(shyMs + 1), true);
  }
});
