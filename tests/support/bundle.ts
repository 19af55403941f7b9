import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { ROOT } from "./project.ts";

/** The size in bytes of a file and everything that it imports, minified by the bundler of this runtime and gzipped. */
export async function bundledSize(file: string): Promise<number> {
  return gzipSync(await bundle(join(ROOT, file)), { level: 9 }).length;
}

async function bundle(path: string): Promise<string | Uint8Array> {
  if ("Bun" in globalThis) return (await promisify(execFile)(process.execPath, ["build", "--minify", path])).stdout;
  const args = ["bundle", "--quiet", "--minify", "--config", join(ROOT, "deno.json"), path];
  const { success, stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  if (!success) throw new Error(`deno ${args.join(" ")} failed`);
  return stdout;
}
