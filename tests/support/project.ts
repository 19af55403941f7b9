import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** The top folder of the repository. */
export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What a file of the repository says. */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** What a JSON file of the repository says. */
export function readJson(path: string): Record<string, unknown> {
  return JSON.parse(readText(path));
}

/** All TypeScript files in a folder of the repository, with `/` between the names. */
export function sourcesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .sort();
}

/** A name that a file imports, for its value or for its type alone. */
export interface Import {
  readonly name: string;
  readonly typeOnly: boolean;
  /** Whether it is loaded only when the program comes to it. */
  readonly dynamic: boolean;
}

/** What a file imports or re-exports. */
export function importsOf(path: string): Import[] {
  return importsIn(readText(path));
}

/** What the text of a file imports or re-exports. Examples in comments do not count. */
export function importsIn(text: string): Import[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const found: Import[] = [];
  for (const [, type, name] of code.matchAll(/^(?:import|export)\s+(type\s+)?[\w$*,{}\s]+?\s+from\s+"([^"]+)"/gm)) {
    found.push({ name: name!, typeOnly: type !== undefined, dynamic: false });
  }
  for (const [, name] of code.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g)) {
    found.push({ name: name!, typeOnly: false, dynamic: true });
  }
  for (const [, name] of code.matchAll(/^import\s+"([^"]+)"/gm)) {
    found.push({ name: name!, typeOnly: false, dynamic: false });
  }
  return found;
}

/** Everything that is loaded when a file is imported: files of the repository, and the bare names of packages. */
export function loadedBy(path: string): string[] {
  const loaded = new Set<string>();
  const waiting = [path];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (loaded.has(file)) continue;
    loaded.add(file);
    if (!file.endsWith(".ts")) continue;
    for (const { name, typeOnly, dynamic } of importsOf(file)) {
      if (!typeOnly && !dynamic) waiting.push(name.startsWith(".") ? posix.join(posix.dirname(file), name) : name);
    }
  }
  return [...loaded].sort();
}
