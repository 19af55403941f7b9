import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { stopped } from "./child.ts";
import { type NatsBinary, natsServers } from "./nats_download.ts";

export { type NatsBinary, natsServers } from "./nats_download.ts";

/** How a server is started; everything has a default. */
export interface ServerOptions {
  /** Which nats-server, or its version. The default is the newest. */
  readonly server?: NatsBinary | string | undefined;
  /** What its configuration file contains besides name, address and JetStream. */
  readonly config?: string | undefined;
  /** Whether JetStream is on. The default is yes. */
  readonly jetStream?: boolean | undefined;
  /** The domain of its JetStream. The default is none. */
  readonly domain?: string | undefined;
  /** Where JetStream keeps its files. The default is a temporary folder that is removed with the server. */
  readonly storeDir?: string | undefined;
  /** The port for clients. By default the system chooses a free one. */
  readonly port?: number | undefined;
  /** Its `server_name`. */
  readonly name?: string | undefined;
}

/** A signal that a server can be sent. */
export type Signal = "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT" | "SIGHUP" | "SIGINT";

/** A nats-server that runs, or did. It ends with this process, however this process ends. */
export interface RunningServer extends AsyncDisposable {
  readonly version: string;
  readonly port: number;
  /** `127.0.0.1:<port>` */
  readonly host: string;
  /** `nats://127.0.0.1:<port>` */
  readonly url: string;
  /** Where a `websocket` block of its configuration listens. */
  readonly websocketUrl: string | undefined;
  /** The id of the running process; a different one after {@link restart}. */
  readonly pid: number;
  /** What it logged since it was last started. */
  log(): string;
  /** Sends a signal; resolves when it has taken effect: when the server is gone, or stands still. */
  kill(signal: Signal): Promise<void>;
  /** Ends it as an operator would (SIGTERM). Its files and port stay for {@link restart}. */
  stop(): Promise<void>;
  /** Starts it again, after ending it if need be: same port and files. */
  restart(): Promise<void>;
  /** Replaces the `config` that it was started with; takes effect at the next {@link restart} or SIGHUP. */
  configure(config: string): void;
}

const START_TIMEOUT_MS = 30_000;

/** The limit for tests that start servers: more than the 5 s that Bun allows. */
export const LIMIT = { timeout: 120_000 } as const;

// The server's parent. It reads a pipe that only this process writes to: when this process is gone, even by SIGKILL,
// the pipe ends and so does the server, and its folder goes. A line instead of the end means that the folder is still
// needed. The server is a child that was not waited for, so its id cannot be somebody else's by then. All this happens
// in a grandchild of this process: Bun kills the children of a test that takes too long, and Deno those of a file that
// failed.
const KEEPER = `exec 3<&0
(
  folder=$1; shift
  "$@" </dev/null >&2 3<&- &
  server=$!
  echo "$server"
  exec 2>/dev/null >/dev/null
  read -r _ <&3 && folder=
  kill -9 "$server"
  wait "$server"
  [ -z "$folder" ] || rm -rf -- "$folder"
) &
exec 2>/dev/null >/dev/null 3<&-
wait
`;

interface Running {
  readonly keeper: ChildProcess;
  readonly pid: number;
  readonly port: number;
  readonly websocketUrl: string | undefined;
  /** Resolves when the server is gone. */
  readonly gone: Promise<void>;
  readonly log: () => string;
}

/** Starts the server and waits until it says that it is ready. */
function launch(binary: NatsBinary, configFile: string, folder: string): Promise<Running> {
  const keeper = spawn("sh", ["-c", KEEPER, "sh", folder, binary.path, "-c", configFile], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  let log = "";
  keeper.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
  keeper.stderr.setEncoding("utf8");
  // only the server holds this pipe, so its end is the server's
  const gone = new Promise<void>((resolve) => keeper.stderr.on("end", () => resolve()));
  return new Promise((resolve, reject) => {
    let ready = false;
    const fail = (why: string) => {
      if (ready) return;
      clearTimeout(timer);
      keeper.stdin.end();
      reject(new Error(`nats-server ${binary.version} ${why}:\n${log}`));
    };
    const timer = setTimeout(() => fail(`was not ready within ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
    keeper.on("error", (error) => fail(`could not be started (${error.message})`));
    gone.then(() => fail("ended at once"));
    const look = () => {
      const port = /client connections on [^\n]*:(\d+)/.exec(log)?.[1];
      const pid = /^(\d+)\n/.exec(output)?.[1];
      if (port === undefined || pid === undefined || !log.includes("Server is ready")) return;
      clearTimeout(timer);
      ready = true;
      resolve({
        keeper,
        pid: Number(pid),
        port: Number(port),
        websocketUrl: /websocket clients on (wss?:\/\/\S+)/.exec(log)?.[1],
        gone,
        log: () => log,
      });
    };
    keeper.stdout.on("data", look);
    keeper.stderr.on("data", (text: string) => {
      log += text;
      look();
    });
  });
}

/** Ends the server, if it still runs, and its keeper; the folder stays. */
async function end({ keeper }: Running): Promise<void> {
  if (keeper.exitCode !== null || keeper.signalCode !== null) return;
  const exited = new Promise((resolve) => keeper.once("exit", resolve));
  keeper.stdin?.end("\n");
  await exited;
}

/**
 * The nats-server with this version, or the newest.
 *
 * @throws if there is none.
 */
export async function chooseServer(server?: NatsBinary | string): Promise<NatsBinary> {
  if (typeof server === "object") return server;
  const all = await natsServers();
  const binary = server === undefined ? all.at(-1) : all.find(({ version }) => version === server);
  if (binary === undefined) {
    throw new Error(`There is no nats-server ${server} here, only ${all.map((b) => b.version).join(", ")}.`);
  }
  return binary;
}

/** Starts a nats-server on 127.0.0.1. */
export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const binary = await chooseServer(options.server);
  const folder = mkdtempSync(join(tmpdir(), "ratesync-nats-"));
  const configFile = join(folder, "nats.conf");
  const storeDir = options.storeDir ?? join(folder, "jetstream");
  const name = options.name ?? `n${process.pid}`;
  let config = options.config ?? "";
  let port = options.port ?? -1;
  const save = () =>
    writeFileSync(
      configFile,
      `server_name: ${JSON.stringify(name)}\nlisten: "127.0.0.1:${port}"\n` +
        (options.jetStream === false
          ? ""
          : `jetstream { store_dir: ${JSON.stringify(storeDir)}, max_mem: 256M, max_file: 2G${
            options.domain === undefined ? "" : `, domain: ${options.domain}`
          } }\n`) +
        config,
    );

  save();
  let running = await launch(binary, configFile, folder).catch((error) => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  let alive = true;
  const watch = (current: Running) =>
    void current.gone.then(() => {
      if (current === running) alive = false;
    });
  watch(running);
  port = running.port;
  save();

  const kill = async (signal: Signal) => {
    if (!alive) return;
    process.kill(running.pid, signal);
    if (signal === "SIGSTOP") await stopped(running.pid);
    if (signal === "SIGKILL" || signal === "SIGTERM" || signal === "SIGINT") await running.gone;
  };
  return {
    version: binary.version,
    port,
    host: `127.0.0.1:${port}`,
    url: `nats://127.0.0.1:${port}`,
    get websocketUrl() {
      return running.websocketUrl;
    },
    get pid() {
      return running.pid;
    },
    log: () => running.log(),
    kill,
    stop: () => kill("SIGTERM"),
    async restart() {
      await kill("SIGTERM");
      await end(running);
      running = await launch(binary, configFile, folder);
      alive = true;
      watch(running);
    },
    configure(text) {
      config = text;
      save();
    },
    async [Symbol.asyncDispose]() {
      await end(running);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A cluster of nats-servers that share one JetStream. */
export interface RunningCluster extends AsyncDisposable {
  readonly servers: readonly RunningServer[];
  /** The URLs of all, with commas between. */
  readonly url: string;
}

/** Asks the system for `count` ports that nobody listens on. */
async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(listeners.map((listener) =>
    new Promise<number>((resolve, reject) => {
      listener.on("error", reject);
      listener.listen(0, "127.0.0.1", () => {
        const address = listener.address();
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    })
  ));
  await Promise.all(listeners.map((listener) => new Promise((resolve) => listener.close(resolve))));
  return ports;
}

type ClusterOptions = Omit<ServerOptions, "port" | "name" | "storeDir">;

/** Starts `count` servers as one cluster. They accept clients at once; a leader is elected soon after. */
export async function startCluster(count = 3, options: ClusterOptions = {}): Promise<RunningCluster> {
  // By the time a server listens on a port that was free, the system may have given the port to somebody else.
  return await startOnFreePorts(count, options).catch(() => startOnFreePorts(count, options));
}

async function startOnFreePorts(count: number, options: ClusterOptions): Promise<RunningCluster> {
  const ports = await freePorts(count);
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(", ");
  const started = await Promise.allSettled(ports.map((port, i) =>
    startServer({
      ...options,
      name: `n${i}`,
      config: `cluster { name: C, listen: "127.0.0.1:${port}", routes: [${routes}] }\n${options.config ?? ""}`,
    })
  ));
  const servers = started.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
  const dispose = async () => {
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  };
  const failure = started.find((result) => result.status === "rejected");
  if (failure?.status === "rejected") {
    await dispose();
    throw failure.reason;
  }
  return { servers, url: servers.map((server) => server.url).join(","), [Symbol.asyncDispose]: dispose };
}

/** One of the nats-servers that a test file runs on. */
export interface ServerUnderTest extends NatsBinary {
  /** Registers a test with the server's version in its name. */
  test(name: string, body: () => void | Promise<void>): void;
  /** One server of this version that the tests of this file share; started on first use, ended after the last test. */
  shared(): Promise<RunningServer>;
  /** Starts a separate server, for a test that changes, stops or breaks it. */
  start(options?: Omit<ServerOptions, "server">): Promise<RunningServer>;
}

/** Calls `register` for each nats-server that is available, and reports which these are. */
export async function forEachServer(register: (server: ServerUnderTest) => void): Promise<void> {
  const binaries = await natsServers();
  process.stderr.write(`nats-server: ${binaries.map(({ version }) => version).join(", ")}\n`);
  const shared = new Map<string, Promise<RunningServer>>();
  for (const binary of binaries) {
    register({
      ...binary,
      test: (name, body) => void test(`${name} [nats-server ${binary.version}]`, LIMIT, async () => await body()),
      shared() {
        const server = shared.get(binary.version) ?? startServer({ server: binary });
        shared.set(binary.version, server);
        return server;
      },
      start: (options) => startServer({ ...options, server: binary }),
    });
  }
  after(async () => {
    await Promise.all([...shared.values()].map(async (server) => await (await server)[Symbol.asyncDispose]()));
  });
}
