import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** A nats-server that can be started, and its version without the `v`. */
export interface NatsBinary {
  readonly version: string;
  readonly path: string;
}

/** What to do on a machine on which no nats-server can be had. */
export const ADVICE =
  "No nats-server found, and none could be downloaded. The tests need a real one. Either install it " +
  "(https://github.com/nats-io/nats-server/releases, `apt-get install nats-server`, `brew install nats-server`), or set " +
  `NATS_SERVER to its path (several paths with '${delimiter}' between).`;

const cache = join(dirname(fileURLToPath(import.meta.url)), "..", "..", ".cache", "nats-server");

/** A download that failed is not tried again for this long, because every test file asks. */
const RETRY_AFTER_MS = 10 * 60_000;
const LOCK_BEAT_MS = 1_000;
const LOCK_STALE_MS = 15_000;
const DOWNLOAD_TIMEOUT_MS = 180_000;

// Debian's package manager works without root in a folder of its own. $1 is that folder: empty, absolute.
const PREPARE = `set -e
c=$1; mkdir -p "$c/lists/partial" "$c/archives/partial"; cd "$c"
o="-qq -o Dir::State::Lists=$c/lists -o Dir::Cache=$c -o APT::Sandbox::User=root -o Acquire::Languages=none"
`;
const UNPACK = `
dpkg -x nats-server_*.deb root
mv root/usr/sbin/nats-server nats-server
rm -rf lists archives root sources.list nats-server_*.deb *.bin
`;
const DOWNLOADS = {
  /** What the machine's own release offers: 2.9.10 on Debian 12. */
  oldest: `${PREPARE}
apt-get -qq download nats-server || { apt-get $o update; apt-get $o download nats-server; }
${UNPACK}`,
  /** What Debian's unstable release offers, from the package source that the machine uses. */
  newest: `${PREPARE}
. /etc/os-release
uri=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
  awk -v r="$VERSION_CODENAME" '$1==r||$1=="stable"{print $2;exit}')
[ -n "$uri" ]
echo "deb $uri sid main" > sources.list
o="$o -o Dir::Etc::SourceList=$c/sources.list -o Dir::Etc::SourceParts=/dev/null"
apt-get $o update
apt-get $o download nats-server
${UNPACK}`,
} as const;

function run(file: string, args: string[], timeout: number): Promise<{ ok: boolean; output: string }> {
  return new Promise((resolve) => {
    execFile(file, args, { timeout, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      resolve({ ok: error === null, output: `${stdout}${stderr}` });
    });
  });
}

async function identify(path: string): Promise<NatsBinary | undefined> {
  if (!existsSync(path)) return undefined;
  const { output } = await run(path, ["--version"], 10_000);
  const version = /v(\d+\.\d+\.\d+\S*)/.exec(output)?.[1];
  return version === undefined ? undefined : { version, path };
}

async function ageMs(path: string): Promise<number> {
  const info = await stat(path).catch(() => undefined);
  return info === undefined ? Infinity : Date.now() - info.mtimeMs;
}

/**
 * Holds a lock that all processes on this machine respect. A lock whose holder died is taken over. Should two processes
 * ever hold it, they only do the same work twice: what they make is put in place by one atomic rename.
 */
async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      await mkdir(path);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const age = await ageMs(path);
    if (age > LOCK_STALE_MS && age !== Infinity) {
      const taken = `${path}-${process.pid}-${Date.now()}`;
      await rename(path, taken).then(() => rm(taken, { recursive: true, force: true }), () => {});
    } else {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const beat = setInterval(() => utimes(path, new Date(), new Date()).catch(() => {}), LOCK_BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    await rm(path, { recursive: true, force: true });
  }
}

async function download(which: keyof typeof DOWNLOADS): Promise<NatsBinary | undefined> {
  const target = join(cache, which);
  const failed = join(cache, `${which}.failed`);
  const found = await identify(join(target, "nats-server"));
  if (found !== undefined || await ageMs(failed) < RETRY_AFTER_MS) return found;
  await mkdir(cache, { recursive: true });
  return await locked(join(cache, "lock"), async () => {
    const meanwhile = await identify(join(target, "nats-server"));
    if (meanwhile !== undefined || await ageMs(failed) < RETRY_AFTER_MS) return meanwhile;
    for (const name of await readdir(cache)) {
      // left behind by a run that was killed: only the holder of the lock downloads
      if (name.startsWith("download-")) await rm(join(cache, name), { recursive: true, force: true });
    }
    process.stderr.write(`Downloading the ${which} nats-server that this machine's package source has\n`);
    const folder = await mkdtemp(join(cache, "download-"));
    try {
      const { ok, output } = await run("sh", ["-c", DOWNLOADS[which], "sh", folder], DOWNLOAD_TIMEOUT_MS);
      if (ok && await identify(join(folder, "nats-server")) !== undefined) {
        await rm(target, { recursive: true, force: true });
        await rename(folder, target);
        return await identify(join(target, "nats-server"));
      }
      await writeFile(failed, output);
      return undefined;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

async function candidates(): Promise<(NatsBinary | undefined)[]> {
  const chosen = process.env["NATS_SERVER"];
  if (chosen) {
    const paths = chosen.split(delimiter).filter((path) => path !== "");
    return await Promise.all(paths.map(async (path) => {
      const binary = await identify(path);
      if (binary === undefined) {
        throw new Error(`NATS_SERVER names '${path}', which is no nats-server that can be run.`);
      }
      return binary;
    }));
  }
  const installed = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "nats-server"));
  return [
    ...await Promise.all(installed.map(identify)),
    await download("oldest"),
    await download("newest"),
  ];
}

function byVersion(a: NatsBinary, b: NatsBinary): number {
  return a.version.localeCompare(b.version, "en", { numeric: true });
}

/**
 * The nats-servers to test with, oldest first, one of each version. If `$NATS_SERVER` is set, it alone counts;
 * otherwise they are what is on the PATH, and the oldest and newest that Debian's package manager provides without
 * root.
 *
 * @throws if there is none: tests that need a server never skip.
 */
export async function natsServers(): Promise<readonly NatsBinary[]> {
  const found = new Map<string, NatsBinary>();
  for (const binary of await candidates()) if (binary && !found.has(binary.version)) found.set(binary.version, binary);
  if (found.size === 0) {
    const notes = (await readdir(cache).catch(() => [])).filter((name) => name.endsWith(".failed"));
    throw new Error(notes.length === 0 ? ADVICE : `${ADVICE} What the download said: ${join(cache, notes[0] ?? "")}`);
  }
  return [...found.values()].sort(byVersion);
}
