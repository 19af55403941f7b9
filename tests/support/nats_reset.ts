import process from "node:process";

/**
 * Lets the tests survive what Node's sockets do in Deno: `@nats-io/transport-node` takes its listeners off a socket and
 * destroys it when a login is rejected, and Deno still reports the reset or the TLS alert that the server sends, to
 * nobody. The transport of the published package for Deno is another one.
 */
export function ignoreLateSocketErrors(): void {
  if (!("Deno" in globalThis)) return;
  process.on("uncaughtException", (error: unknown) => {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ECONNRESET" || error instanceof Error && error.message.startsWith("received fatal alert")) return;
    throw error;
  });
}
