import { assert, assertAlmostEquals, assertEquals, assertGreater, assertLess, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import type { LimiterOptions } from "../../../src/config/options.ts";
import { createHandOver } from "../../../src/core/hand_over/hand_over.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import { concurrencyRule } from "../../../src/core/rules/concurrency.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { freshState, stateCodec } from "../../../src/core/decision/state.ts";
import { decideWork } from "../../../src/core/decision/work.ts";
import {
  createSimulation,
  type ProcessOptions,
  type SimulatedProcess,
  type Simulation,
} from "../../support/simulated_process.ts";
import { TERMS } from "../../support/rule_terms.ts";

/** Nothing of it comes back while a test runs. */
const LIMIT = 1_000;
const HOT: LimiterOptions = {
  algorithm: "sliding_window",
  limit: LIMIT,
  windowMs: 3_600_000,
  timeoutMs: 0,
  failClosed: true,
};
/** More than anybody takes in a test. */
const ENDLESS: LimiterOptions = { ratePerSecond: 1_000_000, burst: 1_000_000, failClosed: true };

/** Callers of one process that ask again and again; what they got, and how they failed. */
interface Crowd {
  readonly process: SimulatedProcess;
  served: number;
  refused: number;
  failed: number;
  longestMs: number;
}

function crowd(
  { clock }: Simulation,
  process: SimulatedProcess,
  callers: number,
  until: number,
): [Crowd, Promise<void>] {
  const tally: Crowd = { process, served: 0, refused: 0, failed: 0, longestMs: 0 };
  const ask = async () => {
    while (clock.now() < until) {
      const since = clock.now();
      try {
        const { allowed } = await process.limiter.tryAcquire();
        if (allowed) tally.served++;
        else tally.refused++;
        if (!allowed) await clock.sleep(1); // refusals that are certain take no time
      } catch {
        tally.failed++;
        await clock.sleep(1);
      }
      tally.longestMs = Math.max(tally.longestMs, clock.now() - since);
    }
  };
  return [tally, Promise.all(Array.from({ length: callers }, ask)).then(() => {})];
}

/** So many processes with 5 callers each on one key, for so long. */
async function rush(
  simulation: Simulation,
  count: number,
  options: LimiterOptions,
  { ms = 400, settings = { latencyMs: 2 }, meanwhile }: {
    readonly ms?: number;
    readonly settings?: ProcessOptions;
    readonly meanwhile?: (processes: readonly SimulatedProcess[]) => Promise<void>;
  } = {},
): Promise<Crowd[]> {
  const { clock, start, run } = simulation;
  const processes = Array.from({ length: count }, () => start(options, settings));
  const until = clock.now() + ms;
  const all = processes.map((process) => crowd(simulation, process, 5, until));
  await run(Promise.all([meanwhile?.(processes), ...all.map(([, over]) => over)]));
  return all.map(([tally]) => tally);
}

const total = (crowds: readonly Crowd[], of: "served" | "refused" | "failed") =>
  crowds.reduce((sum, crowd) => sum + crowd[of], 0);

test("processes on one key hand their requests to its writer: nobody loses more than a few races [TB-11]", async () => {
  const simulation = createSimulation();
  const crowds = await rush(simulation, 8, ENDLESS);
  for (const { process: { limiter } } of crowds) assertLessOrEqual(limiter.getMetrics().casFailures, 5);
  assertEquals(total(crowds, "failed"), 0);
  const served = crowds.map((crowd) => crowd.served);
  assertLess(Math.max(...served) / Math.min(...served), 2, `${served}`);
  // A write takes 2 ms here, and everybody's callers are in every second one at the least.
  assertGreater(total(crowds, "served"), 8 * 5 * (400 / 2) / 3, `${served}`);
  for (const { longestMs } of crowds) assertLess(longestMs, 30);
});

test("without the hand-over the same processes lose hundreds of races", async () => {
  const simulation = createSimulation();
  const crowds = await rush(simulation, 8, ENDLESS, { settings: { latencyMs: 2, store: { peers: undefined } } });
  const lost = crowds.reduce((sum, { process: { limiter } }) => sum + limiter.getMetrics().casFailures, 0);
  assertGreater(lost, 100);
});

test("a limit is exact when requests are handed over [W4, SW-1]", async () => {
  const simulation = createSimulation();
  const crowds = await rush(simulation, 6, HOT, { ms: 500 });
  assertEquals(total(crowds, "served"), LIMIT);
  assertEquals(total(crowds, "failed"), 0);
  assertGreater(total(crowds, "refused"), 0);
});

test("a key that one process uses has nobody asked and nobody served: one write for each batch", async () => {
  const simulation = createSimulation();
  const [only] = await rush(simulation, 1, ENDLESS);
  assert(only);
  const { get, compareAndSet } = only.process.link.sent;
  assertEquals([only.process.peers.asked, get], [0, 0]);
  assertLessOrEqual(compareAndSet, only.served / 5 + 1);
  assertEquals(only.process.limiter.getMetrics().casFailures, 0);
});

test("nobody is asked where the answer could come too late for writing by oneself afterwards", async () => {
  for (const [latencyMs, isAsked] of [[240, true], [260, false]] as const) {
    const options: LimiterOptions = { ...ENDLESS, backendTimeoutMs: 2_000 };
    const crowds = await rush(createSimulation(), 3, options, { ms: 8_000, settings: { latencyMs } });
    assertEquals(crowds.some(({ process }) => process.peers.asked > 0), isAsked, `${latencyMs} ms`);
    assertEquals(total(crowds, "failed"), 0);
  }
});

test("when the others have gone, the last process writes for itself again", async () => {
  const { clock, start, run } = createSimulation();
  const processes = Array.from({ length: 3 }, () => start(ENDLESS, { latencyMs: 2 }));
  const until = clock.now() + 500;
  const simulation = { clock, start, run } as Simulation; // the server is not looked at
  await run(Promise.all(processes.map((process) => crowd(simulation, process, 5, until)[1])));
  const [last] = processes;
  assert(last);
  await run(crowd(simulation, last, 5, clock.now() + 500)[1]);
  const before = [last.link.sent.compareAndSet, last.peers.asked] as const;
  const [tally, over] = crowd(simulation, last, 5, clock.now() + 200);
  await run(over);
  assertGreater(tally.served, 400);
  assertEquals(last.peers.asked, before[1]);
  assertGreater(last.link.sent.compareAndSet - before[0], 90);
});

test("a writer that dies, freezes or is cut off costs its followers one bounded wait, and admits nobody twice", async () => {
  for (let at = 100; at < 130; at += 5.3) {
    const simulation = createSimulation();
    const { clock } = simulation;
    let cut: SimulatedProcess | undefined;
    const crowds = await rush(simulation, 4, { ...HOT, backendTimeoutMs: 400 }, {
      ms: 600,
      async meanwhile(processes) {
        await clock.sleep(at);
        cut = processes.toSorted((a, b) => b.link.sent.compareAndSet - a.link.sent.compareAndSet)[0];
        cut!.link.isDown = true;
      },
    });
    const others = crowds.filter(({ process }) => process !== cut);
    assertEquals(total(others, "failed"), 0, `cut off after ${at} ms`);
    assertLessOrEqual(total(crowds, "served"), LIMIT);
    // What was lost on the way was decided and never used: the batches of the moment, and no more.
    assertGreater(total(crowds, "served"), LIMIT - 4 * 5 * 4, `cut off after ${at} ms`);
    for (const { longestMs } of others) assertLess(longestMs, 200, `cut off after ${at} ms`);
  }
});

const encoded = (message: unknown) => new TextEncoder().encode(JSON.stringify(message));

for (
  const [name, garble] of [
    ["nonsense", () => new Uint8Array([0, 1, 2, 255])],
    ["nothing", () => new Uint8Array()],
    ["half an answer", (answer: Uint8Array) => answer.slice(0, answer.length >> 1)],
    ["other JSON", () => encoded({ now: 1, horizon: 2 })],
    ["a refusal that names the one who asked first", () => encoded([1, "declined", "process1-0", false])],
    ["a refusal that names nobody who exists", () => encoded([1, "declined", "*.>", false])],
    ["a count that is not so", (answer: Uint8Array) => {
      const message: unknown = answer.length > 0 ? JSON.parse(new TextDecoder().decode(answer)) : undefined;
      if (!Array.isArray(message) || message[1] !== "decided") return answer;
      const granted: unknown = message[5];
      return encoded(message.with(5, granted === 3 ? 2 : 3));
    }],
  ] as const
) {
  test(`a writer that answers ${name} is not believed, and the limit holds`, async () => {
    const simulation = createSimulation();
    const crowds = await rush(simulation, 4, HOT, {
      meanwhile: async (processes) => {
        await simulation.clock.sleep(200);
        for (const { peers } of processes) peers.garble = garble;
      },
    });
    assertLessOrEqual(total(crowds, "served"), LIMIT);
    assertEquals(total(crowds, "failed"), 0);
    assertGreater(total(crowds, "served"), LIMIT / 4);
  });
}

test("questions and answers that are lost, late or doubled admit nobody twice, and everybody is answered", async () => {
  const kinds = ["request_lost", "answer_lost", "error", "conflict", "refused"] as const;
  for (const kind of kinds) {
    const simulation = createSimulation();
    const crowds = await rush(simulation, 4, HOT, {
      ms: 600,
      meanwhile: (processes) => {
        let count = 0;
        for (const { peers } of processes) {
          peers.faults = () => {
            if (++count % 7 !== 0) return undefined;
            return kind === "error" ? { kind, applied: count % 2 === 0 } : { kind };
          };
        }
        return Promise.resolve();
      },
    });
    assertLessOrEqual(total(crowds, "served"), LIMIT, kind);
    assertGreater(total(crowds, "served"), LIMIT / 4, kind);
    assertEquals(total(crowds, "failed"), 0, kind);
  }
});

test("an answer that cannot be sent is a problem of who asked, and of nobody else", async () => {
  const simulation = createSimulation();
  let thrown = 0;
  const crowds = await rush(simulation, 3, ENDLESS, {
    meanwhile: ([first]) => {
      const { peers } = first!;
      const { serve } = peers;
      peers.serve = (address, receive) =>
        serve(address, (message, respond) =>
          receive(message, (answer) => {
            if (thrown++ < 3) throw new Error("the socket is closed");
            respond(answer);
          }));
      return Promise.resolve();
    },
  });
  assertGreater(thrown, 3);
  assertEquals(total(crowds, "failed"), 0);
  for (const { served } of crowds) assertGreater(served, 150);
  for (const { process: { limiter } } of crowds) await simulation.run(limiter.close());
});

test("a question that nobody answers, nor gives up, costs its process one bounded wait", async () => {
  const simulation = createSimulation();
  let asked = 0;
  const [asking, ...others] = await rush(simulation, 3, ENDLESS, {
    meanwhile: (processes) => {
      const { peers } = processes[0]!;
      const { ask } = peers;
      peers.ask = (...question) => asked++ === 0 ? new Promise<never>(() => {}) : ask(...question);
      return Promise.resolve();
    },
  });
  assertGreater(asked, 1);
  assertGreater(asking!.served, 100);
  assertLess(asking!.longestMs, 100);
  assertEquals(total([asking!, ...others], "failed"), 0);
  await simulation.run(asking!.process.limiter.close());
});

test("a process with other rules is not followed, and decides by its own", async () => {
  const simulation = createSimulation();
  const { clock, start, run } = simulation;
  const until = clock.now() + 500;
  const processes = [
    start(ENDLESS, { latencyMs: 2 }),
    start({ ...ENDLESS, ratePerSecond: 999_999 }, { latencyMs: 2 }),
    start(ENDLESS, { latencyMs: 2 }),
  ];
  const all = processes.map((process) => crowd(simulation, process, 5, until));
  await run(Promise.all(all.map(([, over]) => over)));
  for (const [{ served, failed }] of all) {
    assertEquals(failed, 0);
    assertGreater(served, 100);
  }
});

test("a process that may not be asked, or may not ask, works as without the hand-over", async () => {
  const simulation = createSimulation();
  const { clock, start, run } = simulation;
  const mute = { serve: () => () => {}, ask: () => Promise.reject(new Error("permissions violation")) };
  const until = clock.now() + 1_500;
  const processes = [start(ENDLESS, { latencyMs: 2 }), start(ENDLESS, { latencyMs: 2, store: { peers: mute } })];
  const all = processes.map((process) => crowd(simulation, process, 5, until));
  await run(Promise.all(all.map(([, over]) => over)));
  for (const [{ served, failed }] of all) {
    assertEquals(failed, 0);
    assertGreater(served, 5);
  }
});

test("permits are handed over too: never more than the limit, and all come back [CON-1, CON-8]", async () => {
  const simulation = createSimulation();
  const { clock, start, run, server } = simulation;
  const options: LimiterOptions = { maxConcurrent: 6, leaseMs: 3_000, failClosed: true };
  const processes = Array.from({ length: 5 }, () => start(options, { latencyMs: 1 }));
  const until = clock.now() + 1_500;
  let held = 0;
  let most = 0;
  let served = 0;
  let cancelled = 0;
  const callers = processes.flatMap(({ limiter }, process) =>
    Array.from({ length: 6 }, async (_, caller) => {
      while (clock.now() < until) {
        const patience = new AbortController();
        const impatient = (process + caller) % 3 === 0;
        if (impatient) void clock.sleep(7 + caller).then(() => patience.abort());
        try {
          await using _permit = await limiter.acquire({ signal: patience.signal });
          most = Math.max(most, ++held);
          served++;
          await clock.sleep(1 + caller);
          held--;
        } catch {
          cancelled++;
        }
      }
    })
  );
  await run(Promise.all(callers));
  assertLessOrEqual(most, 6);
  assertGreater(served, 300);
  assertGreater(cancelled, 30);
  await clock.advance(200);
  const value = JSON.parse(server.text("api") ?? "{}");
  assertEquals(value.concurrency, { holders: [], waiting: [] });
  assertGreater(processes.reduce((sum, { peers }) => sum + peers.asked, 0), 150);
});

test("a permit that a writer granted comes back at once if nobody hears of it [CON-8]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 3, leaseMs: 60_000, failClosed: true } as const;
  const writer = start(options, { latencyMs: 1 });
  const other = start(options, { latencyMs: 1 });
  await run(other.limiter.acquire().then((permit) => permit.release()));
  await run(writer.limiter.acquire());
  // It loses a race against that, and follows the writer.
  await run(other.limiter.acquire());
  const { asked } = other.peers;
  other.peers.faults = () => "answer_lost";
  const begun = clock.now();
  await run(other.limiter.acquire());
  assertLess(clock.now() - begun, 100);
  assertEquals(other.peers.asked, asked + 1);
  assertEquals((await run(writer.limiter.getState())).currentUsage, 3);
});

test("work that waits at a process which resets the limiter is sent back at once [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, burst: 5, failClosed: true };
  const writer = start(options, { latencyMs: 1 });
  const other = start(options, { latencyMs: 1 });
  await run(other.limiter.acquire());
  await run(writer.limiter.acquire());
  // It loses a race against that, and follows the writer.
  await run(other.limiter.acquire());
  const { asked } = other.peers;
  writer.link.failNext({ kind: "request_late", byMs: 20 }, { operation: "compareAndSet" });
  const writing = writer.limiter.acquire();
  await clock.advance(5);
  const begun = clock.now();
  const waiting = other.limiter.acquire();
  await clock.advance(5);
  const resetting = writer.limiter.reset();
  await run(waiting);
  assertLess(clock.now() - begun, 30);
  assertEquals(other.peers.asked, asked + 1);
  await run(Promise.all([writing, resetting]));
});

test("work that waits at a process which resets the key is sent back, although that process has no turn at its store yet [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 100, burst: 50, failClosed: true };
  const writer = start(options, { latencyMs: 1, mostAtOnce: 1 });
  const other = start(options, { latencyMs: 1 });
  const [ofWriter, ofOther] = [writer, other].map(({ limiter }) => limiter.key("k"));
  await run(ofOther!.acquire());
  await run(ofWriter!.acquire());
  // It loses a race against that, and follows the writer.
  await run(ofOther!.acquire());
  const { asked } = other.peers;
  writer.link.failNext({ kind: "request_late", byMs: 200 }, { operation: "compareAndSet" });
  const busy = writer.limiter.acquire({ key: "another" });
  await clock.advance(2);
  const begun = clock.now();
  const waiting = ofOther!.acquire();
  await clock.advance(5);
  const resetting = ofWriter!.reset();
  await run(waiting);
  assertLess(clock.now() - begun, 10);
  assertEquals(other.peers.asked, asked + 1);
  await run(Promise.all([busy, resetting]));
});

test("work and verdicts come through the messages as they are; anything else is no work and no answer", () => {
  const rules = [
    rateRule({ ratePerSecond: 10, burst: 5, timingMarginMs: 10 }),
    concurrencyRule({ maxConcurrent: 3, leaseMs: 1_000 }),
  ];
  const codec = stateCodec(rules, TERMS);
  const handOver = createHandOver(rules, codec);
  const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: 0, max: 1e13 });
  const owner = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
  const request = fc.record({
    cost: fc.constantFrom(1, 2, 0.5),
    deadline: fc.constantFrom(-Infinity, 7.25, Infinity),
    keepMs: fc.constantFrom(undefined, 0.5, 60_000),
  });
  const work = fc.record({
    owner,
    leaseMs: fc.integer({ min: 1, max: 1e6 }),
    held: fc.option(fc.array(fc.nat()), { nil: undefined }),
    firstPermit: fc.nat(),
    since: finite,
    marks: fc.boolean(),
    isMarked: fc.boolean(),
    isOverdue: fc.boolean(),
    lead: fc.double({ noNaN: true, min: 0, max: 60_000 }),
    slack: fc.double({ noNaN: true, min: 0, max: 60_000 }),
    restraint: finite,
    requests: fc.array(request),
    undos: fc.array(
      fc.record({ at: finite, epoch: fc.nat(), permit: fc.nat(), before: finite, more: finite, unused: fc.boolean() }),
    ),
  });
  fc.assert(fc.property(work, fc.nat(), finite, fc.boolean(), (raw, number, until, isYourTurn) => {
    const requests = raw.requests.map(({ cost, deadline, keepMs }) => ({
      demand: { cost, owner: raw.owner, permit: 0 },
      deadline,
      patient: deadline > 0,
      ...(keepMs === undefined ? {} : { keepMs }),
    }));
    const [, concurrency] = rules;
    const undos = raw.undos.map(({ at, epoch, permit, before, more, unused }) => ({
      unused,
      grant: {
        from: at,
        at,
        epoch,
        demand: { cost: 1, owner: raw.owner, permit },
        before: [before, concurrency!.initial],
        after: [before + more, concurrency!.initial],
      },
    }));
    const foreign = { key: "api", work: { ...raw, requests, undos }, number, until, isYourTurn };
    const decoded = handOver.decodeWork(handOver.encodeWork(foreign));
    // Who does not wait has no deadline that counts.
    const arrived = requests.map((request) => request.patient ? request : { ...request, deadline: 0 });
    assertEquals<unknown>(decoded, { ...foreign, work: { ...foreign.work, requests: arrived } });
  }));
  const advice = fc.oneof(fc.constantFrom(undefined, "write" as const), fc.record({ ask: owner }));
  fc.assert(fc.property(advice, (advice) => {
    assertEquals(handOver.decodeAnswer(handOver.encodeRefusal(advice)), { kind: "declined", advice });
  }));
  const verdict = fc.record({
    state: fc.record({
      epoch: fc.nat(),
      parts: fc.tuple(finite, fc.constant(rules[1]!.initial)),
      writers: fc.array(fc.tuple(owner, fc.nat()), { maxLength: 3 }),
      others: fc.constant([]),
    }),
    terms: fc.record({ now: finite, horizon: finite, isFresh: fc.boolean() }),
    granted: fc.nat(),
    dealtWith: fc.nat(),
    lastAt: finite,
    next: fc.option(owner, { nil: undefined }),
  });
  fc.assert(fc.property(verdict, (verdict) => {
    assertEquals(handOver.decodeAnswer(handOver.encodeVerdict(verdict)), { kind: "decided", verdict });
  }));
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.json().map((text) => new TextEncoder().encode(text))), (bytes) => {
    assertEquals(handOver.decodeWork(bytes), undefined);
    if (bytes.length > 0) assertEquals(handOver.decodeAnswer(bytes), undefined);
  }));
});

test("a permit is held for the lease of who asked for it, whoever decides, and however long its own lease is", () => {
  const NOW = 1_000_000;
  const rules = [concurrencyRule({ maxConcurrent: 3, leaseMs: 1_000 })];
  const heldUntil = (leaseMs: number) => {
    const requests = [{ demand: { cost: 1, owner: "a", permit: 0 }, deadline: Infinity, patient: true }];
    const nothing = { undos: [], held: undefined, marks: false, isMarked: false, lead: 0, slack: 0, restraint: 0 };
    const work = { owner: "a", leaseMs, firstPermit: 0, since: NOW, requests, isOverdue: false, ...nothing };
    const terms = { now: NOW, horizon: NOW + 1_000, isFresh: true };
    return decideWork(rules, freshState(rules, NOW), work, terms).parts;
  };
  for (const leaseMs of [400, 1_000, 5_000]) {
    assertEquals(heldUntil(leaseMs), [{ holders: [{ owner: "a", until: leaseMs, permits: [0] }], waiting: [] }]);
  }
});

test("who was passed over reserves farther ahead, but where a permit would be held or a window wait for it [TB-9, CMB-1]", () => {
  const NOW = 1_000_000;
  const rate = rateRule({ ratePerSecond: 1, burst: 5, timingMarginMs: 10 });
  const window = windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 1_000, timingMarginMs: 10 });
  const permits = concurrencyRule({ maxConcurrent: 3, leaseMs: 1_000 });
  const granted = (rules: Rule[], isOverdue: boolean, cost: number) => {
    const requests = [cost, 1].map((cost) => {
      return { demand: { cost, owner: "a", permit: 0 }, deadline: Infinity, patient: true };
    });
    const nothing = { undos: [], held: undefined, marks: false, isMarked: false, lead: 0, slack: 0, restraint: 0 };
    const work = { owner: "a", leaseMs: 1_000, firstPermit: 0, since: NOW, requests, isOverdue, ...nothing };
    const state = freshState(rules, NOW);
    // All of the burst was used just now: another 5 have come in 5 seconds.
    const parts = state.parts.map((part, i) => rules[i]!.kind === "rate" ? 5_000 : part);
    const terms = { now: NOW, horizon: NOW + 1_000, isFresh: true };
    return decideWork(rules, { ...state, parts }, work, terms).granted.map(({ request }) => request.demand.cost);
  };
  assertEquals(granted([rate], false, 5), []);
  // Nobody behind it does.
  for (const rules of [[rate], [rate, rate]]) assertEquals(granted(rules, true, 5), [5]);
  for (const other of [window, permits]) assertEquals(granted([rate, other], true, 5), []);
});

test("a process that meets a key which another one wrote long ago writes it itself, after three round trips [TB-11]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 5, windowMs: 60_000, maxConcurrent: 5 } as const;
  const [earlier, newcomer] = [25, 10].map((latencyMs) => start(options, { latencyMs }));
  await run(earlier!.limiter.acquire().then((permit) => permit.release()));
  await clock.advance(500);
  const begun = clock.now();
  await run(newcomer!.limiter.acquire());
  assertAlmostEquals(clock.now() - begun, 30, 0.1);
  assertEquals([newcomer!.peers.asked, newcomer!.limiter.getMetrics().casFailures], [0, 0]);
});

test("work that was handed over is not decided once its process has written for itself, whatever the clocks say [CON-1]", async () => {
  for (const skewMs of [0, 1, 8]) {
    const { clock, start, run } = createSimulation();
    const options = { maxConcurrent: 3, leaseMs: 240, failClosed: true } as const;
    const host = (offset: number) => {
      const own = { now: () => clock.now() + offset, sleep: clock.sleep };
      const reading = { source: "host", offsetMs: 0, errorMs: 10, measuredAt: null } as const;
      return { clock: own, readClock: () => ({ ...reading, now: own.now() }) };
    };
    const writer = start(options, { latencyMs: 0.2, store: host(-skewMs) });
    const other = start(options, { latencyMs: 0.2, store: host(0) });
    await run(other.limiter.acquire().then((permit) => permit.release()));
    await run(writer.limiter.acquire());
    // It loses a race against that, and follows the writer.
    const first = await run(other.limiter.acquire());
    // The writer reads, and a slow answer takes it as long as the other one waits for its renewal.
    await clock.advance(79.5);
    const { asked } = other.peers;
    writer.link.failNext({ kind: "request_late", byMs: 51 }, { operation: "get" });
    const looking = writer.limiter.getState();
    for (let left = 1_000; left > 0 && other.peers.asked === asked; left--) await clock.advance(0.05);
    assertEquals(other.peers.asked, asked + 1, "the test knows the way");
    await clock.advance(2);
    const second = await run(other.limiter.acquire());
    const fourth = writer.limiter.acquire({ timeoutMs: 40 }).then(() => true, () => false);
    assertEquals([await run(fourth), first.lost, second.lost], [false, false, false], `${skewMs} ms behind`);
    await run(looking);
  }
});

test("followers that may reserve farther ahead than the writer do not ask it all the time", async () => {
  const { clock, start, run } = createSimulation();
  const limit: LimiterOptions = { ratePerSecond: 10, burst: 1, maxConcurrent: 4, failClosed: true };
  const near = { latencyMs: 0.1 };
  const writer = start({ ...limit, reserveAheadMs: 0 }, near);
  const followers = [
    start({ ...limit, reserveAheadMs: 4_000 }, near),
    start({ ...limit, reserveAheadMs: 4_000 }, near),
  ];
  const [one, other] = followers;
  const until = clock.now() + 20_000;
  let served = 0;
  const call = async (process: SimulatedProcess | undefined) => {
    for (; clock.now() < until; served++) await (await process?.limiter.acquire())?.release();
  };
  await run(Promise.all([writer, writer, one, one, other].map(call)));
  assertGreater(served, 195);
  for (const { peers: { asked } } of followers) {
    assertGreater(asked, 0);
    assertLess(asked, 500);
  }
});
