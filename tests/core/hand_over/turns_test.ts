import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryKv } from "../../../src/adapters/memory.ts";
import { freshState, stateCodec, type Writer } from "../../../src/core/decision/state.ts";
import type { Work } from "../../../src/core/decision/work.ts";
import type { Guest } from "../../../src/core/hand_over/guests.ts";
import { createHandOver, type ForeignWork } from "../../../src/core/hand_over/hand_over.ts";
import { canWaitForAnswer, createTurns } from "../../../src/core/hand_over/turns.ts";
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
function turnsOfA({ tripMs = 1, clockErrorMs = 2, backendTimeoutMs = 2_000 } = {}) {
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
    backendTimeoutMs,
    clockErrorMs,
    onGuest: () => {},
  });
  /** Another process comes with its work. Resolves to whom it is sent. */
  const visit = (owner: string, patienceMs = PATIENCE_MS, isYourTurn = false): Promise<string | undefined> => {
    const work = workOf(owner);
    const foreign: ForeignWork & { readonly work: Work } = {
      key: KEY,
      work,
      number: 1,
      until: clock.now() + patienceMs,
      isYourTurn,
    };
    return new Promise((resolve) => {
      turns.receive(foreign, (bytes) => {
        const answer = handOver.decodeAnswer(bytes);
        const advice = answer?.kind === "declined" ? answer.advice : undefined;
        resolve(typeof advice === "object" ? advice.ask : undefined);
      });
    });
  };
  /** What "a" said when it asked for the last time. */
  const question = () => {
    const last = handOver.decodeWork(asked.at(-1)!.message);
    assert(last?.work);
    return last;
  };
  /** Asks the leader, which answers after `ms`. */
  const ask = async (answer: () => Uint8Array, ms = 0): Promise<void> => {
    const asking = turns.ask(turns.leader(clock.now())!, workOf("a"));
    await clock.advance(ms);
    asked.at(-1)!.answer(answer());
    await asking;
  };
  return { clock, handOver, turns, asked, visit, question, ask };
}

function guestOf(owner: string, now: number, respond: () => void = () => {}): Guest {
  return { key: KEY, work: workOf(owner), number: 1, until: now + PATIENCE_MS, isYourTurn: false, respond };
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
  turns.served(["b", "c", "d"].map((owner) => ({
    guest: guestOf(owner, clock.now(), () => told.push(owner)),
    verdict: verdictOf(clock.now(), "c"),
  })));
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
    const { turns } = turnsOfA({ tripMs });
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

test("after 50 ms of deciding for others the one that has not written for longest does so, unless it is far away", async () => {
  const { clock, turns, visit } = turnsOfA();
  const next = (writers: readonly Writer[] = []) => turns.guests(clock.now(), writers).next?.work.owner;
  const serve = () => turns.served([{ guest: guestOf("e", clock.now()), verdict: verdictOf(clock.now()) }]);
  for (const [owner, patienceMs] of [["b", 150], ["c", 150], ["far", 1_000]] as const) void visit(owner, patienceMs);
  serve();
  await clock.advance(49);
  serve();
  assertEquals(next(), undefined);
  await clock.advance(1);
  assertEquals([next([["c", 1]]), next([["b", 1], ["c", 1]]), next([["c", 1], ["b", 1]])], ["b", "b", "c"]);
  await clock.advance(100);
  // Only one is left that waits for so long that its own writes must be slow.
  assertEquals([turns.guests(clock.now(), []).all.length, next()], [1, undefined]);

  // Once another process has written, the time begins anew.
  turns.lose("b", clock.now());
  await clock.advance(100);
  void visit("d", 150);
  serve();
  assertEquals(next(), undefined);
  await clock.advance(50);
  assertEquals(next(), "d");
});

test("who is told that it is its turn decides, whomever it has followed", () => {
  for (const isYourTurn of [false, true]) {
    const { clock, turns, visit } = turnsOfA();
    turns.lose("b", clock.now());
    void visit("c", PATIENCE_MS, isYourTurn);
    assertEquals([turns.hasGuests, turns.leader(clock.now())], isYourTurn ? [true, undefined] : [false, "b"]);
  }
});

test("who is sent from one process to the next tells each that it has to decide, and gives up after the fourth", async () => {
  const { clock, handOver, turns, ask, question } = turnsOfA();
  turns.lose("b", clock.now());
  for (const [i, next] of ["c", "d", "e", "f"].entries()) {
    await ask(() => handOver.encodeRefusal({ ask: next }));
    assertEquals([question().isYourTurn, turns.leader(clock.now())], [i > 0, i < 3 ? next : undefined]);
  }
  // It begins anew with the next one.
  turns.lose("g", clock.now());
  await ask(() => handOver.encodeRefusal({ ask: "h" }));
  assertEquals([question().isYourTurn, turns.leader(clock.now())], [false, "h"]);
});

test("a process that was chosen to write hears so once", async () => {
  const { clock, handOver, turns, ask, question } = turnsOfA();
  turns.lose("b", clock.now());
  await ask(() => handOver.encodeVerdict(verdictOf(clock.now(), "d")));
  for (const isYourTurn of [true, false]) {
    await ask(() => handOver.encodeVerdict(verdictOf(clock.now())));
    assertEquals([turns.leader(clock.now()), question().isYourTurn], ["d", isYourTurn]);
  }
});

test("who is told to write by itself does so, and may lose to the same process right afterwards", async () => {
  for (const advice of ["write", { ask: "a" }] as const) {
    const { clock, handOver, turns, ask, question } = turnsOfA();
    turns.lose("b", clock.now());
    await ask(() => handOver.encodeRefusal(advice));
    assertEquals(turns.leader(clock.now()), undefined);
    turns.lose("b", clock.now());
    assertEquals(turns.leader(clock.now()), "b");
    void turns.ask("b", workOf("a"));
    assertEquals(question().isYourTurn, false);
  }
});

test("a process waits for an answer as long as eight take, but leaves itself time to write, and nobody decides later", async () => {
  const untilOf = async (options: Parameters<typeof turnsOfA>[0], answersMs: readonly number[] = []) => {
    const { clock, handOver, turns, ask, question } = turnsOfA(options);
    turns.lose("b", clock.now());
    for (const ms of answersMs) await ask(() => handOver.encodeVerdict(verdictOf(clock.now())), ms);
    const now = clock.now();
    void turns.ask("b", workOf("a"));
    return question().until - now;
  };
  const clockErrorMs = 0;
  assertEquals(await untilOf({ clockErrorMs }), 50);
  assertEquals(await untilOf({ clockErrorMs, tripMs: 20 }), 160);
  assertEquals(await untilOf({ clockErrorMs, tripMs: 20, backendTimeoutMs: 200 }), 100);
  assertEquals(await untilOf({ clockErrorMs }, [30]), 240);
  // By a clock that is ahead this much, it is over when this process stops waiting.
  assertEquals(await untilOf({ clockErrorMs: 2 }), 48);
  assertEquals(await untilOf({ clockErrorMs: 60_000 }), 25);
  assertEquals(canWaitForAnswer({ tripMs: 250 }, 2_000), true);
  assertEquals(canWaitForAnswer({ tripMs: 251 }, 2_000), false);
});

test("how long an answer took after the decision is known by the other's clock, as far as that makes sense", async () => {
  for (const [aheadMs, expected] of [[-4, 4], [-60_000, 10], [60_000, undefined]] as const) {
    const { clock, handOver, turns, ask } = turnsOfA();
    turns.lose("b", clock.now());
    assertEquals(turns.answers(clock.now()), undefined);
    await ask(() => handOver.encodeVerdict(verdictOf(clock.now() + aheadMs)), 10);
    assertEquals(turns.answers(clock.now())?.ms, expected);
    // Who follows nobody waits for nobody's answer.
    await clock.advance(200);
    assertEquals(turns.answers(clock.now()), undefined);
  }
});

test("guests hear nothing from a process whose store failed: nobody knows what became of their work", async () => {
  const { clock, turns, visit } = turnsOfA();
  let isTold = false;
  void visit("b").then(() => isTold = true);
  turns.fail();
  assertEquals(turns.hasGuests, false);
  turns.dismiss();
  await clock.advance(PATIENCE_MS);
  assertEquals(isTold, false);
});
