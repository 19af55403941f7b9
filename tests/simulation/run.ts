import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { createRandom } from "../support/random.ts";
import { type Call, endWithProcess, makeCall } from "./calls.ts";
import { createCluster, type Loss } from "./cluster.ts";
import type { Host } from "./host.ts";
import { createNetwork, type Mishap } from "./network.ts";
import { QUICK } from "./profiles.ts";
import { type Process, type Sabotage, startProcess } from "./process.ts";
import { mostCost, mostGenerous, type Scenario, scenarioOfProcess, type Step } from "./scenario.ts";
import { judge } from "./judge.ts";
import { createWorld, type Trace } from "./world.ts";

/** What happened in a run, in true time. */
export interface History {
  readonly scenario: Scenario;
  readonly calls: readonly Call[];
  readonly processes: readonly Process[];
  readonly losses: readonly Loss[];
  readonly mishaps: readonly Mishap[];
  /** What was wrong apart from the calls. */
  readonly problems: readonly string[];
  /** When everything was over. */
  readonly overAt: number;
}

/** The result of a run. */
export interface Report {
  readonly scenario: Scenario;
  /** What was wrong; empty if everything was right. */
  readonly problems: readonly string[];
  readonly trace: readonly Trace[];
  readonly digest: number;
  readonly events: number;
  readonly history: History;
}

/** How to run a scenario. */
export interface RunOptions {
  /** Whether to keep a trace for people. */
  readonly traced?: boolean;
  /** What is put between the limiters and the world. */
  readonly sabotage?: Sabotage;
}

/** How long after the last step the network and the cluster are in order again, in milliseconds. */
const HEALED_AFTER_MS = 3_000;
/** How long a caller without a timeout may wait until the run counts as stuck. */
const STUCK_AFTER_MS = 900_000;
/** How long to wait so that what is left is tried again and marks are forgotten. */
const REST_MS = 5_000;

/** Runs a scenario and judges it. The same scenario always ends in the same way. */
export async function run(scenario: Scenario, { traced = false, sabotage = {} }: RunOptions = {}): Promise<Report> {
  const random = createRandom(scenario.seed ^ 0x5eed);
  const world = createWorld({ traced });
  const network = createNetwork(world, random.fork(), scenario.conditions);
  const cluster = createCluster(world, network, random.fork(), scenario.cluster);
  const problems: string[] = [];
  const calls: Call[] = [];
  const processes: Process[] = [];
  const looking = new Set<Host>();

  function start(index: number, machine = scenario.hosts[index]!): Process {
    const births = processes.filter(({ name }) => name.startsWith(`p${index}.`)).length;
    const process = startProcess(
      world,
      network,
      cluster,
      random.fork(),
      scenarioOfProcess(scenario, index + births),
      `p${index}.${births}`,
      machine,
      sabotage,
    );
    processes.push(process);
    return process;
  }

  const current: (Process | undefined)[] = scenario.hosts.map((_, index) => start(index));

  function leave(index: number, backAfterMs: number): void {
    current[index] = undefined;
    world.at(world.now + backAfterMs, () => current[index] ??= start(index));
  }

  function take(step: Step): void {
    switch (step.kind) {
      case "stop":
      case "freeze":
      case "lose":
        return cluster[step.kind](step.ms);
    }
    const process = current[step.process];
    if (!process) return;
    const { host } = process;
    const callsHere = () => calls.filter((call) => call.process === process);
    switch (step.kind) {
      case "call":
        return host.deliver(() => calls.push(makeCall(world, process, step, calls.length)));
      case "look":
        return host.deliver(() => void look(process, step.limiter));
      case "pause":
        return host.pause(step.ms);
      case "step":
        return host.step(step.ms);
      case "cut":
        return network.cut(host.name, step.ms);
      case "storm":
        return network.disturb(host.name, step.worse, step.ms);
      case "crash":
        host.crash();
        network.leave(host.name);
        for (const call of callsHere()) endWithProcess(world, call);
        return leave(step.process, step.backAfterMs);
      case "close":
        world.note(host.name, () => "closes");
        host.deliver(() => {
          for (const limiter of process.limiters) void limiter.close();
          // Closing gives back what is held: a program that closes has seen to it that nobody works any more.
          for (const call of callsHere()) {
            if (call.startedAt !== undefined) call.endedAt = Math.min(call.endedAt, world.now);
          }
        });
        return leave(step.process, step.backAfterMs);
    }
  }

  async function look({ name, host, limiters, now }: Process, place: number): Promise<void> {
    const asked = world.now;
    looking.add(host);
    try {
      const { resetAt, remaining, currentUsage } = await limiters[place]!.getState();
      // While the store is away, the host's clock may have to do.
      if (resetAt < Math.min(now(), host.clock.now()) - 1) {
        problems.push(`${name} asks at ${asked}, and is told that all is reset in the past`);
      }
      if (remaining < 0 || currentUsage < 0) problems.push(`${name} sees ${remaining} left, ${currentUsage} used`);
    } catch (error) {
      if (!(error instanceof RateLimiterAcquisitionError)) {
        problems.push(`${name} asks for the state, and gets ${error}`);
      }
    }
    looking.delete(host);
  }

  for (const step of scenario.steps) world.at(step.at, () => take(step));
  const lastStep = scenario.steps.at(-1)?.at ?? 0;
  world.at(lastStep + HEALED_AFTER_MS, () => {
    world.note("world", () => "everything is in order again");
    network.conditions = QUICK;
    cluster.heal();
  });
  await world.run(lastStep + HEALED_AFTER_MS);
  const isOver = () =>
    processes.every(({ host }) => !host.isPaused) &&
    calls.every(({ ending, startedAt, endedAt }) =>
      ending !== undefined && (startedAt === undefined || endedAt < Infinity)
    );
  await world.run(world.now + STUCK_AFTER_MS, isOver);
  const overAt = world.now;
  const { burst: bursts } = mostGenerous(scenario);
  const longest = Math.max(...scenario.limiters.flatMap(({ leaseMs, reserveAheadMs, rates, windows }) => [
    2 * leaseMs,
    ...rates.map(({ ratePerSecond, burst }) => reserveAheadMs + 1_000 * bursts * burst / ratePerSecond),
    ...windows.map(({ windowMs }) => reserveAheadMs + windowMs),
  ]));
  await world.run(overAt + longest + REST_MS);
  for (const { name, isAlive } of looking) if (isAlive) problems.push(`${name} asks for the state, and hears nothing`);
  for (const { name, host, limiters } of processes) {
    if (!host.isAlive) continue;
    if (host.timers > 0) problems.push(`${host.timers} timers are left behind in ${name}`);
    for (const limiter of limiters) {
      const { currentConcurrent } = limiter.getMetrics();
      if (currentConcurrent !== 0) problems.push(`${name} still counts ${currentConcurrent} permits of ${limiter.id}`);
    }
  }
  await observe();

  /** Checks that a process that starts when all is over finds everything free. */
  async function observe(): Promise<void> {
    const observer = start(scenario.hosts.length, { skewMs: 0, driftPpm: 0, timerLateMs: 0.1 });
    for (const [place, plan] of observer.scenario.limiters.entries()) {
      const free = Math.floor(Math.min(mostCost(plan), plan.maxConcurrent ?? Infinity));
      const keys = new Set(calls.filter((call) => call.plan.limiter === place).map((call) => call.plan.key));
      for (const key of keys) {
        const limiter = observer.limiters[place]!;
        let remaining: number | undefined;
        const state = (key === undefined ? limiter : limiter.key(key)).getState();
        state.then((seen) => remaining = seen.remaining, (error) => problems.push(`the observer got ${error}`));
        await world.run(world.now + REST_MS, () => remaining !== undefined);
        if (remaining !== free) {
          const stored = cluster.text(key === undefined ? plan.id : `${plan.id}.${key}`);
          problems.push(`leaked: ${remaining} of ${free} is left of ${plan.id} ${key ?? ""} in the end: ${stored}`);
        }
      }
    }
  }

  const history: History = {
    scenario,
    calls,
    processes,
    losses: cluster.losses,
    mishaps: [...network.mishaps, ...cluster.mishaps],
    problems,
    overAt,
  };
  return {
    scenario,
    problems: judge(history),
    trace: world.trace,
    digest: world.digest,
    events: world.events,
    history,
  };
}
