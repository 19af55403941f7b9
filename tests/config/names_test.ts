import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { nearestName, suggestion } from "../../src/config/names.ts";

const known = ["rate_per_second", "max_concurrent", "limit", "timeout", "burst", "url"];

test("nearestName() finds the name behind a typing mistake", () => {
  assertEquals(nearestName("rate_per_secnd", known), "rate_per_second");
  assertEquals(nearestName("rate-per-second", known), "rate_per_second");
  assertEquals(nearestName("Timeout", known), "timeout");
  assertEquals(nearestName("tiemout", known), "timeout");
  assertEquals(nearestName("limits", known), "limit");
  assertEquals(nearestName("ulr", known), "url");
});

test("nearestName() finds a name in camelCase and by its alias", () => {
  assertEquals(nearestName("ratePerSecond", known), "rate_per_second");
  assertEquals(nearestName("windowMs", ["window_seconds"], [["windowMs", "window_seconds"]]), "window_seconds");
});

test("nearestName() finds nothing where nothing is near", () => {
  assertEquals(nearestName("colour", known), undefined);
  // Half of a swap is none.
  for (const given of ["xul", "rxl"]) assertEquals(nearestName(given, known), undefined);
  assertEquals(nearestName("", known), undefined);
  assertEquals(nearestName("x".repeat(100_000), known), undefined);
  assertEquals(nearestName("limit", []), undefined);
});

test("suggestion() is a question, or nothing", () => {
  assertEquals(suggestion("brust", known), " Did you mean 'burst'?");
  assertEquals(suggestion("colour", known), "");
});

test("suggestion() knows a name by one of its words, unless too many have it", () => {
  const names = [
    "bucketName",
    "bucketTtlMs",
    "tlsCaFile",
    "tls_cert_file",
    "tlsKeyFile",
    "tlsMode",
    "rates",
    "ratePerSecond",
  ];
  for (
    const [given, meant] of [
      ["bucket", "'bucketName' or 'bucketTtlMs'"],
      ["TTL", "'bucketTtlMs'"],
      ["cert", "'tls_cert_file'"],
      ["rate", "'rates' or 'ratePerSecond'"],
    ] as const
  ) assertEquals(suggestion(given, names), ` Did you mean ${meant}?`);
  for (const given of ["tls", ""]) assertEquals(suggestion(given, names), "");
  // Another spelling of a name means that one alone.
  assertEquals(
    suggestion("rates", ["rate_limits", "rates_file"], [["rates", "rate_limits"]]),
    " Did you mean 'rate_limits'?",
  );
});
