import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";

/** Runs `body` with a fresh current directory that holds these files. */
export async function inDirectory(
  files: Readonly<Record<string, string>>,
  body: (directory: string) => void | Promise<void>,
): Promise<void> {
  const before = process.cwd();
  const directory = await mkdtemp(join(tmpdir(), "ratesync-"));
  try {
    for (const [name, content] of Object.entries(files)) {
      await mkdir(join(directory, dirname(name)), { recursive: true });
      await writeFile(join(directory, name), content);
    }
    process.chdir(directory);
    await body(directory);
  } finally {
    process.chdir(before);
    await rm(directory, { recursive: true });
  }
}
