// Bun reads no import map: what deno.json maps to another npm package or file is registered here under its bare name.
import { plugin } from "bun";

const root = new URL("../../", import.meta.url);
const { imports } = await Bun.file(new URL("deno.json", root)).json() as { imports: Record<string, string> };

plugin({
  name: "the imports of deno.json",
  setup(build) {
    for (const [name, target] of Object.entries(imports)) {
      const installed = target.replace(/^npm:(@?[^@]+)@[^/]+/, "node_modules/$1");
      if (installed === `node_modules/${name}`) continue;
      build.module(name, async () => ({
        loader: "object",
        exports: await import(new URL(installed, root).pathname),
      }));
    }
  },
});
