import type { Identity } from "../core/store/ledger.ts";

/** Names for writers that are unique across all machines. */
export function createIdentities(): () => Identity {
  // Drawn when needed: some worker runtimes have no random numbers while a module is imported.
  let name = "";
  let cells = 0;
  return () => {
    let last = 0;
    name ||= randomName();
    return { id: `${name}-${(cells++).toString(36)}`, next: (count = 1) => (last += count) - count + 1 };
  };
}

function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36).padStart(7, "0")).join("");
}

/** The hash by which long identifiers are stored. */
export async function sha256(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
