import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:net";
import process from "node:process";

/** A redis-server that runs until it is disposed, or until this process is gone. */
export interface RunningRedis extends AsyncDisposable {
  readonly version: string;
  readonly port: number;
}

// The server reads a pipe that only this process writes to: when the pipe ends, so does the server.
const KEEPER = `"$@" & server=$!; read -r _; kill -9 "$server"`;

/** Starts `$REDIS_SERVER`, or the redis-server on the PATH, without persistence. Undefined if there is none. */
export async function startRedis(): Promise<RunningRedis | undefined> {
  const binary = process.env["REDIS_SERVER"] || "redis-server";
  const version = versionOf(binary);
  if (version === undefined) return undefined;
  const port = await freePort();
  const child = spawn(
    "sh",
    ["-c", KEEPER, "sh", binary, "--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  let log = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      if (log.includes("Ready to accept connections")) resolve();
    });
    ended.then(() => reject(new Error(`redis-server ended at once:\n${log}`)));
  });
  return {
    version,
    port,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}

function versionOf(binary: string): string | undefined {
  try {
    return /v=(\S+)/.exec(execFileSync(binary, ["--version"], { encoding: "utf8" }))?.[1];
  } catch {
    return undefined;
  }
}

function freePort(): Promise<number> {
  const listener = createServer();
  return new Promise((resolve, reject) => {
    listener.on("error", reject);
    listener.listen(0, "127.0.0.1", () => {
      const address = listener.address();
      listener.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}
