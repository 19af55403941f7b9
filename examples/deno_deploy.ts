// A service that answers every client at most ten times in any minute, on Deno Deploy or with
//
//   deno serve -A examples/deno_deploy.ts
//
// With NATS_URL in the environment (on Deno Deploy wss://…) all instances share the limits; without it, each has its
// own.
import process from "node:process";
import { close, configureLimiter, configureStore, tryAcquire } from "@ratesync/core";

const url = process.env.NATS_URL;
configureStore("limits", url ? { engine: "nats", url, autoCreate: true } : { engine: "memory" });
configureLimiter("public-api", { store: "limits", algorithm: "sliding_window", limit: 10, windowMs: 60_000 });

async function answer(_request: Request, { remoteAddr }: Deno.ServeHandlerInfo): Promise<Response> {
  const client = "hostname" in remoteAddr ? remoteAddr.hostname : "local";
  const result = await tryAcquire("public-api", { key: client });
  if (result.allowed) return new Response(`Hello. Requests left at the moment: ${result.remaining}.\n`);
  const seconds = Math.ceil(result.retryAfterMs / 1_000);
  return new Response(`Too many requests. Come back in ${seconds} s.\n`, {
    status: 429,
    headers: { "Retry-After": String(seconds) },
  });
}

// Deno Deploy stops an instance with SIGINT, and other hosts with SIGTERM. An open connection would keep the process
// alive, and in earlier versions of Deno the server would do so too.
const end = () => close().finally(() => process.exit());
process.on("SIGINT", end).on("SIGTERM", end);

// Deno Deploy and `deno serve` look for the handler here.
export default { fetch: answer } satisfies Deno.ServeDefaultExport;
