import { assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { test } from "node:test";
import type { CasResult, Kv } from "../../src/core/store/kv.ts";

/** Opens a fresh, empty {@link Kv} for one test. */
export type OpenKv = () => Promise<{ readonly kv: Kv } & AsyncDisposable>;

const bytes = (text: string) => new TextEncoder().encode(text);

/** The revision of a write that was expected to win. */
function won(result: CasResult): number {
  if (!result.ok) throw new Error("the compare-and-set lost its race");
  return result.revision;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Registers tests of what every {@link Kv} promises. `name` goes before each test's name. */
export function kvSuite(name: string, open: OpenKv): void {
  const check = (what: string, body: (kv: Kv) => Promise<void>) =>
    void test(`${name}: ${what}`, async () => {
      await using opened = await open();
      await body(opened.kv);
    });

  check("get() of a key that was never written is null", async (kv) => {
    assertEquals(await kv.get("nothing"), null);
  });

  check("compareAndSet() with 0 creates a key, and get() reads it back", async (kv) => {
    const revision = won(await kv.compareAndSet("a", bytes("one"), 0));
    assertGreater(revision, 0);
    assertEquals(await kv.get("a"), { value: bytes("one"), revision });
  });

  check("compareAndSet() with 0 loses if the key exists, and changes nothing", async (kv) => {
    const revision = won(await kv.compareAndSet("a", bytes("one"), 0));
    assertEquals(await kv.compareAndSet("a", bytes("two"), 0), { ok: false });
    assertEquals(await kv.get("a"), { value: bytes("one"), revision });
  });

  check("compareAndSet() with the last revision updates the key", async (kv) => {
    const first = won(await kv.compareAndSet("a", bytes("one"), 0));
    const second = won(await kv.compareAndSet("a", bytes("two"), first));
    assertEquals(await kv.get("a"), { value: bytes("two"), revision: second });
  });

  check("compareAndSet() with an old revision loses without an exception, and changes nothing", async (kv) => {
    const first = won(await kv.compareAndSet("a", bytes("one"), 0));
    const second = won(await kv.compareAndSet("a", bytes("two"), first));
    assertEquals(await kv.compareAndSet("a", bytes("three"), first), { ok: false });
    assertEquals(await kv.get("a"), { value: bytes("two"), revision: second });
  });

  check("compareAndSet() with a revision that is still to come loses", async (kv) => {
    const first = won(await kv.compareAndSet("a", bytes("one"), 0));
    assertEquals(await kv.compareAndSet("a", bytes("two"), first + 1_000), { ok: false });
    for (const key of ["a", "b"]) {
      assertEquals(await kv.compareAndSet(key, bytes("two"), Number.MAX_SAFE_INTEGER, 1_000), { ok: false });
    }
    assertEquals([(await kv.get("a"))?.value, await kv.get("b")], [bytes("one"), null]);
  });

  check("compareAndSet() with the revision of another key loses", async (kv) => {
    won(await kv.compareAndSet("a", bytes("one"), 0));
    const other = won(await kv.compareAndSet("b", bytes("one"), 0));
    assertEquals(await kv.compareAndSet("a", bytes("two"), other), { ok: false });
  });

  check("compareAndSet() with a revision loses if the key is missing", async (kv) => {
    assertEquals(await kv.compareAndSet("a", bytes("one"), 7), { ok: false });
    assertEquals(await kv.get("a"), null);
  });

  check("compareAndSet() with the last revision loses once the key was deleted", async (kv) => {
    const revision = won(await kv.compareAndSet("a", bytes("one"), 0));
    await kv.delete("a");
    assertEquals(await kv.compareAndSet("a", bytes("two"), revision), { ok: false });
    assertEquals(await kv.get("a"), null);
  });

  check("delete() removes the key, and the others stay", async (kv) => {
    won(await kv.compareAndSet("a", bytes("one"), 0));
    const revision = won(await kv.compareAndSet("b", bytes("two"), 0));
    await kv.delete("a");
    assertEquals(await kv.get("a"), null);
    assertEquals(await kv.get("b"), { value: bytes("two"), revision });
  });

  check("delete() of a key that is not there is no error", async (kv) => {
    await kv.delete("nothing");
    won(await kv.compareAndSet("a", bytes("one"), 0));
    await kv.delete("a");
    await kv.delete("a");
    assertEquals(await kv.get("a"), null);
  });

  check("compareAndSet() with 0 creates a key again that was deleted, each time", async (kv) => {
    let last = won(await kv.compareAndSet("a", bytes("one"), 0));
    for (const text of ["two", "three"]) {
      await kv.delete("a");
      const revision = won(await kv.compareAndSet("a", bytes(text), 0));
      assertNotEquals(revision, last);
      assertEquals(await kv.get("a"), { value: bytes(text), revision });
      assertEquals(await kv.compareAndSet("a", bytes("late"), 0), { ok: false });
      assertEquals(await kv.compareAndSet("a", bytes("late"), last), { ok: false });
      last = revision;
    }
    won(await kv.compareAndSet("a", bytes("four"), last));
  });

  check("revisions grow with every write of a key", async (kv) => {
    let last = 0;
    for (let i = 0; i < 20; i++) {
      const revision = won(await kv.compareAndSet("a", bytes(`${i}`), last));
      assertGreater(revision, last);
      last = revision;
      won(await kv.compareAndSet(`other${i}`, bytes("x"), 0));
    }
  });

  check("keys() gives each living key once", async (kv) => {
    assertEquals(await collect(kv.keys()), []);
    for (const key of ["a", "b", "c"]) won(await kv.compareAndSet(key, bytes("x"), 0));
    won(await kv.compareAndSet("a", bytes("y"), (await kv.get("a"))?.revision ?? 0));
    await kv.delete("b");
    assertEquals((await collect(kv.keys())).sort(), ["a", "c"]);
  });

  check("keys(prefix) gives the keys that start with it, to the character", async (kv) => {
    for (const key of ["api", "api.1", "api.2", "apix", "b.api", "=2Eapi"]) {
      won(await kv.compareAndSet(key, bytes("x"), 0));
    }
    assertEquals((await collect(kv.keys("api"))).sort(), ["api", "api.1", "api.2", "apix"]);
    assertEquals((await collect(kv.keys("api."))).sort(), ["api.1", "api.2"]);
    assertEquals((await collect(kv.keys("ap"))).sort(), ["api", "api.1", "api.2", "apix"]);
    assertEquals((await collect(kv.keys("api.1"))).sort(), ["api.1"]);
    assertEquals(await collect(kv.keys("nothing")), []);
  });

  check("keys() gives all of many keys", async (kv) => {
    const keys = Array.from({ length: 500 }, (_, i) => `many.${i}`);
    await Promise.all(keys.map(async (key) => won(await kv.compareAndSet(key, bytes("x"), 0))));
    assertEquals((await collect(kv.keys("many."))).sort(), keys.sort());
  });

  const values: [string, Uint8Array][] = [
    ["no bytes", new Uint8Array(0)],
    ["every byte there is", Uint8Array.from({ length: 256 }, (_, i) => i)],
    ["line ends, as in a protocol made of lines", bytes("\r\n\r\nPUB a 0\r\n\r\n")],
    ["4 KiB", Uint8Array.from({ length: 4096 }, (_, i) => (i * 31) % 251)],
    ["a part of a larger buffer", bytes("before, the value, after").subarray(8, 17)],
  ];
  for (const [what, value] of values) {
    check(`a value of ${what} is read as it was written`, async (kv) => {
      const revision = won(await kv.compareAndSet("a", value, 0));
      assertEquals(await kv.get("a"), { value: Uint8Array.from(value), revision });
    });
  }

  check("a value that was read is not changed by later writes", async (kv) => {
    const revision = won(await kv.compareAndSet("a", bytes("one"), 0));
    const entry = await kv.get("a");
    won(await kv.compareAndSet("a", bytes("two"), revision));
    await kv.delete("a");
    for (let i = 0; i < 100; i++) won(await kv.compareAndSet(`k${i}`, bytes("zzzzzzzz"), 0));
    assertEquals(entry, { value: bytes("one"), revision });
  });

  check("what is stored is not changed through the caller's buffer", async (kv) => {
    const value = bytes("one");
    const revision = won(await kv.compareAndSet("a", value, 0));
    value.fill(0);
    assertEquals(await kv.get("a"), { value: bytes("one"), revision });
  });

  check("a ttl does not make a value vanish before its time", async (kv) => {
    const revision = won(await kv.compareAndSet("a", bytes("one"), 0, 60_000));
    assertEquals(await kv.get("a"), { value: bytes("one"), revision });
    const next = won(await kv.compareAndSet("a", bytes("two"), revision, 1));
    assertGreater(next, revision);
  });

  check("of 50 compareAndSet() with the same revision at the same time exactly one wins", async (kv) => {
    const race = async (expected: number) => {
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, i) => kv.compareAndSet("a", bytes(`${expected}/${i}`), expected)),
      );
      const winners = results.flatMap((result, i) => result.ok ? [{ i, revision: result.revision }] : []);
      const [winner, ...others] = winners;
      if (winner === undefined) throw new Error("nobody won");
      assertEquals(others, []);
      assertEquals(await kv.get("a"), { value: bytes(`${expected}/${winner.i}`), revision: winner.revision });
      return winner.revision;
    };
    await race(await race(await race(0)));
  });

  check("of 50 creations of a deleted key at the same time exactly one wins", async (kv) => {
    won(await kv.compareAndSet("a", bytes("one"), 0));
    await kv.delete("a");
    const results = await Promise.all(Array.from({ length: 50 }, (_, i) => kv.compareAndSet("a", bytes(`${i}`), 0)));
    assertEquals(results.filter(({ ok }) => ok).length, 1);
  });

  check("many who read, add one and retry lose no update", async (kv) => {
    const add = async () => {
      for (;;) {
        const entry = await kv.get("sum");
        const sum = entry === null ? 0 : Number(new TextDecoder().decode(entry.value));
        if ((await kv.compareAndSet("sum", bytes(`${sum + 1}`), entry?.revision ?? 0)).ok) return;
      }
    };
    await Promise.all(Array.from({ length: 20 }, add));
    assertEquals(new TextDecoder().decode((await kv.get("sum"))?.value), "20");
  });

  check("announce() reaches those who wait for the key, until they are disposed of", async (kv) => {
    if (kv.wake === undefined || kv.announce === undefined) return;
    const heard: string[] = [];
    const next = new Map<string, () => void>();
    const listen = async (who: string, key: string) =>
      await kv.wake?.(key, () => {
        heard.push(who);
        next.get(who)?.();
      });
    const hint = (who: string) => new Promise<void>((resolve) => next.set(who, resolve));

    const first = await listen("first", "a");
    const second = await listen("second", "a");
    await using _other = await listen("other", "b");
    const both = Promise.all([hint("first"), hint("second")]);
    kv.announce("a");
    await both;
    assertEquals(heard.sort(), ["first", "second"]);

    await first?.[Symbol.asyncDispose]();
    const again = hint("second");
    kv.announce("a");
    await again;
    await second?.[Symbol.asyncDispose]();
    kv.announce("a");
    const last = hint("other");
    kv.announce("b"); // comes after the one before it, so nothing is still on its way
    await last;
    assertEquals(heard.sort(), ["first", "other", "second", "second"]);
  });
}
