import { ConfigValidationError } from "../core/errors.ts";

/** The names that no key and no id may have, because code that handles objects carelessly would trip over them. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

/**
 * Checks the id of a store or limiter.
 *
 * @param path Where it is used.
 * @param received The id, as an error may show it.
 * @throws {ConfigValidationError} if it is not one. Nearly any text that is not empty is.
 */
export function expectId(id: unknown, path: "stores" | "limiters", received: string, file?: string): string {
  const fault = typeof id === "string" ? faultOf(id) : "be a text";
  if (typeof id === "string" && fault === undefined) return id;
  const kind = path === "stores" ? "store" : "limiter";
  throw new ConfigValidationError(`The id of a ${kind} must ${fault}, got ${received}.`, {
    field: typeof id === "string" && id.trim() !== "" ? `${path}.${id}` : path,
    expected: "an id that is not empty and has no space at its ends",
    received,
    file,
  });
}

/** What is wrong with an id, phrased as what it must do. */
function faultOf(id: string): string | undefined {
  if (id.trim() === "") return "not be empty";
  if (id.trim() !== id) return "have no space at its beginning or end";
  if (RESERVED_NAMES.has(id)) return "be another name than one that JavaScript reserves";
  // encodeURIComponent is the test for lone surrogates that the types of every runtime include.
  try {
    encodeURIComponent(id);
    return undefined;
  } catch {
    return "be well-formed Unicode";
  }
}
