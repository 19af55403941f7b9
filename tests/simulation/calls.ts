import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import type { Permit } from "../../src/core/limiter/result.ts";
import type { Process } from "./process.ts";
import type { CallPlan } from "./scenario.ts";
import type { World } from "./world.ts";

/** How a call ended, as its caller saw it. `died` means that it died with its process. */
export type Ending = "granted" | "refused" | "failed" | "aborted" | "closed" | "taken back" | "died";

/** One call, in true time. */
export interface Call {
  readonly id: number;
  readonly plan: CallPlan;
  readonly process: Process;
  readonly askedAt: number;
  /** When its caller changed its mind. */
  abortedAt: number;
  answeredAt: number;
  ending: Ending | undefined;
  /** When its work began; `undefined` if it never did. */
  startedAt: number | undefined;
  /** When its work ended. */
  endedAt: number;
  /** Whether its permit was lost before its work was over. */
  lost: boolean;
  degraded: boolean;
  /** How often the store failed the call, and it was tried again. */
  failures: number;
  /** Something that is wrong whatever else happens. */
  problem: string | undefined;
}

/** Lets a program in the process make a call, and records the result. */
export function makeCall(world: World, process: Process, plan: CallPlan, id: number): Call {
  const call: Call = {
    id,
    plan,
    process,
    askedAt: world.now,
    abortedAt: Infinity,
    answeredAt: Infinity,
    ending: undefined,
    startedAt: undefined,
    endedAt: Infinity,
    lost: false,
    degraded: false,
    failures: 0,
    problem: undefined,
  };
  void perform(world, call).catch((error) => call.problem = `an error of another kind: ${error}`);
  return call;
}

/** The process of the call is dead, and its work with it. */
export function endWithProcess(world: World, call: Call): void {
  if (call.ending === undefined) call.ending = "died";
  if (call.startedAt !== undefined) call.endedAt = Math.min(call.endedAt, world.now);
}

const TRY_AGAIN_MS = 20;

async function perform(world: World, call: Call): Promise<void> {
  const { plan, process, id } = call;
  const { limiter: place, key, cost, timeoutMs, abortAfterMs, holdMs } = plan;
  const whole = process.limiters[place]!; // every process has every limiter
  const limiter: ClosableLimiter = key === undefined ? whole : whole.key(key);
  const controller = new AbortController();
  const says = (what: string) => world.note(process.name, () => `call ${id} ${what}`);
  says(`asks: ${JSON.stringify(plan)}`);
  if (abortAfterMs < Infinity) {
    const abort = () => {
      if (call.ending !== undefined) return;
      call.abortedAt = world.now;
      controller.abort(new Error("the caller has changed its mind"));
    };
    if (abortAfterMs === 0) abort();
    else void process.host.clock.sleep(abortAfterMs).then(abort);
  }
  function answered(ending: Ending): void {
    call.ending = ending;
    call.answeredAt = world.now;
    says(`is ${ending}`);
  }
  const options = { cost, timeoutMs, signal: controller.signal };
  try {
    if (plan.method === "acquire") {
      const permit = await insist(() => limiter.acquire(options));
      answered("granted");
      await work(permit);
    } else if (plan.method === "tryAcquire") {
      const result = await limiter.tryAcquire(options);
      answered(result.allowed ? "granted" : "refused");
      if (result.allowed) await work(result.permit);
    } else {
      const tentative = await limiter.tryTake(options);
      answered(tentative.result.allowed ? "taken back" : "refused");
      call.degraded = tentative.result.degraded;
      if (tentative.result.allowed) await tentative.cancel();
    }
  } catch (error) {
    if (controller.signal.aborted && error === controller.signal.reason) answered("aborted");
    else if (!(error instanceof RateLimiterAcquisitionError)) {
      answered("failed");
      call.problem = `call ${id} got an error of another kind: ${error}`;
    } else if (error.reason === "timeout") answered("refused");
    else answered(error.reason === "closed" ? "closed" : "failed");
  }

  async function insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        const mayPass = error instanceof RateLimiterAcquisitionError && error.reason === "backend";
        if (!plan.insists || !mayPass) throw error;
        call.failures++;
        says("fails, and tries again");
        await process.host.clock.sleep(TRY_AGAIN_MS);
      }
    }
  }

  async function work(permit: Permit): Promise<void> {
    call.startedAt = world.now;
    call.degraded = permit.degraded;
    if (controller.signal.aborted) call.problem = `call ${id} started after it was aborted`;
    const over = new AbortController();
    // A caller that loses a permit stops at once, and counts until then.
    const stop = () => {
      call.lost = true;
      over.abort("lost");
    };
    if (permit.lost) stop();
    else permit.signal.addEventListener("abort", stop);
    if (holdMs > 0) await process.host.clock.sleep(holdMs, over.signal).catch(() => {});
    call.endedAt = Math.min(call.endedAt, world.now);
    says(call.lost ? "loses its permit" : "is done");
    await permit.release();
  }
}
