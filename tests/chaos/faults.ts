import { assert } from "@std/assert";
import type { Direction } from "../support/tcp_proxy.ts";
import { BACKEND_TIMEOUT_MS, type ChaosProcess, LEASE_MS, sleep, type World } from "./world.ts";

/** Something that goes wrong, and is over when it resolves. */
export interface Fault {
  readonly name: string;
  readonly where: "server" | "cluster";
  happen(world: World): Promise<void>;
}

/** Longer than a call may take, so that its outcome is unknown. */
const UNANSWERED_MS = 2.4 * BACKEND_TIMEOUT_MS;
/** Longer than a lease, so that permits are lost. */
const PAST_LEASE_MS = 1.5 * LEASE_MS;

/** Everything that the tests let go wrong. */
export const FAULTS: readonly Fault[] = [
  {
    name: "server killed with -9 and restarted",
    where: "server",
    async happen({ servers: [server] }) {
      assert(server);
      await server.kill("SIGKILL");
      await sleep(300);
      await server.restart();
    },
  },
  {
    name: "server stands still for longer than a call may take",
    where: "server",
    async happen({ servers: [server] }) {
      assert(server);
      await server.kill("SIGSTOP");
      await sleep(UNANSWERED_MS);
      await server.kill("SIGCONT");
    },
  },
  {
    name: "process stands still past its lease",
    where: "server",
    async happen(world) {
      const one = anyOf(world);
      await one.pause();
      await sleep(PAST_LEASE_MS);
      one.resume();
    },
  },
  {
    name: "process killed with -9, and another one started",
    where: "server",
    async happen(world) {
      await anyOf(world).kill();
      await world.start();
    },
  },
  {
    name: "connections cut in the middle, again and again",
    where: "server",
    async happen({ processes }) {
      for (let i = 0; i < 4; i++) {
        for (const { proxy } of processes) {
          proxy?.cut();
          await sleep(40);
        }
        await sleep(80);
      }
    },
  },
  {
    name: "requests of a process held up past its lease, and then let through",
    where: "server",
    happen: async (world) => await isolate(world, ["to server"], (proxy) => proxy.open()),
  },
  {
    name: "answers to a process lost, and then its connection",
    where: "server",
    async happen(world) {
      await isolate(world, ["to client"], (proxy) => {
        proxy.cut();
        proxy.open();
      });
    },
  },
  {
    name: "all connections in a black hole, and then cut",
    where: "server",
    async happen({ processes }) {
      for (const { proxy } of processes) proxy?.hold("to client", "to server");
      await sleep(UNANSWERED_MS);
      for (const { proxy } of processes) {
        proxy?.cut();
        proxy?.open();
      }
    },
  },
  {
    name: "network slow, and slower one way",
    where: "server",
    async happen({ processes }) {
      for (const { proxy } of processes) {
        proxy?.delay("to server", 60);
        proxy?.delay("to client", 20);
      }
      await sleep(600);
      for (const { proxy } of processes) {
        proxy?.delay("to server", 0);
        proxy?.delay("to client", 0);
      }
    },
  },
  {
    name: "server restarted with an empty store",
    where: "server",
    happen: async (world) => await world.forget(),
  },
  {
    name: "leader of three stepped down",
    where: "cluster",
    happen: async (world) => await world.stepDown(),
  },
  {
    name: "leader of three killed with -9",
    where: "cluster",
    async happen(world) {
      const leader = await world.leader();
      await leader.kill("SIGKILL");
      await world.recovered();
      await leader.restart();
    },
  },
  {
    name: "leader of three stands still until another one leads",
    where: "cluster",
    async happen(world) {
      const leader = await world.leader();
      await leader.kill("SIGSTOP");
      await world.recovered();
      await leader.kill("SIGCONT");
    },
  },
];

/** One of the processes that live. */
function anyOf({ processes }: World): ChaosProcess {
  const living = processes.filter(({ isAlive }) => isAlive);
  const one = living[Math.floor(Math.random() * living.length)];
  assert(one, "no process lives");
  return one;
}

async function isolate(
  world: World,
  directions: readonly Direction[],
  end: (proxy: NonNullable<ChaosProcess["proxy"]>) => void,
): Promise<void> {
  const { proxy } = anyOf(world);
  assert(proxy);
  proxy.hold(...directions);
  await sleep(PAST_LEASE_MS);
  end(proxy);
}
