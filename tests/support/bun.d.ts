// The few things of Bun that are used here: its own types would add a dependency for the sake of ten lines.
declare module "bun" {
  export function plugin(options: {
    name: string;
    setup(build: {
      module(name: string, load: () => Promise<{ loader: "object"; exports: Record<string, unknown> }>): void;
    }): void;
  }): void;
}
declare const Bun: {
  file(url: URL): { json(): Promise<unknown> };
  gc(force: boolean): number;
};
