// Bun reads no import map: what deno.json maps to another npm package or file is registered here under its bare name,
// and so is this package itself.
import { plugin } from "bun";

const root = new URL("../../", import.meta.url);
const manifest = await Bun.file(new URL("deno.json", root)).json() as {
  name: string;
  imports: Record<string, string>;
  exports: Record<string, string>;
};
const own = Object.entries(manifest.exports).map(([entry, file]) => [manifest.name + entry.slice(1), file] as const);

plugin({
  name: "the imports of deno.json",
  setup(build) {
    for (const [name, file] of own) {
      build.module(name, async () => ({ loader: "object", exports: await import(new URL(file, root).pathname) }));
    }
    for (const [name, target] of Object.entries(manifest.imports)) {
      const installed = target.replace(/^npm:(@?[^@]+)@[^/]+/, "node_modules/$1");
      if (installed === `node_modules/${name}`) continue;
      build.module(name, async () => ({
        loader: "object",
        exports: await import(new URL(installed, root).pathname),
      }));
    }
  },
});
