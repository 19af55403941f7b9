import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import type { Bucket } from "../../../src/adapters/nats/bucket.ts";
import { toStoreError } from "../../../src/adapters/nats/errors.ts";
import { createLink } from "../../../src/adapters/nats/link.ts";
import { createPatientKv, type PatientKv } from "../../../src/adapters/nats/patient.ts";
import { StoreUnavailableError } from "../../../src/core/errors.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { logBook } from "../../support/log_book.ts";
import { connectionOf, freshBucket, testStore } from "../../support/nats_store.ts";

const CREATED = "2030-01-01T00:00:00Z";
const BUCKET: Bucket = {
  name: "b",
  retentionMs: undefined,
  allowMsgTtl: false,
  serverVersion: "2.15.1",
  created: CREATED,
};
const AT = { store: "nats", server: "localhost", bucket: "b", doing: "read", timeoutMs: 400 } as const;
/** As nats.js says that nobody answers, and as a server says that there is no such stream. */
const NO_LEADER = toStoreError(Object.assign(new Error("no responders"), { name: "NoRespondersError" }), AT);
const NO_BUCKET = toStoreError(Object.assign(new Error("stream not found"), { code: 10_059 }), AT);

await forEachServer((server) => {
  /** Calls about a bucket, on a real connection; `found`: how often the bucket was looked for. */
  async function world(body: (patient: PatientKv, counts: { found: number; calls: number }) => Promise<void>) {
    const { url } = await server.shared();
    await using store = testStore({ url, bucketName: freshBucket() });
    await store.open();
    const link = createLink(await connectionOf(store), AT, logBook(), false);
    const counts = { found: 0, calls: 0 };
    const patient = createPatientKv(link, BUCKET, () => {
      counts.found++;
      return Promise.resolve(BUCKET);
    });
    await body(patient, counts);
    link.release();
  }

  server.test("a call is made again while nobody leads the bucket [FAIL-3]", () =>
    world(async (patient, counts) => {
      const answer = await patient.patiently(async () => {
        if (++counts.calls < 3) throw await Promise.resolve(NO_LEADER);
        return "answer";
      });
      assertEquals([answer, counts.calls], ["answer", 3]);
    }));

  server.test("a bucket that is gone is looked for, and created if need be, before the call is made again [FAIL-3]", () =>
    world(async (patient, counts) => {
      const answer = await patient.patiently(async () => {
        counts.calls++;
        if (counts.found === 0) throw await Promise.resolve(NO_BUCKET);
        return "answer";
      });
      assertEquals([answer, counts], ["answer", { found: 1, calls: 2 }]);
    }));

  server.test("a bucket that nobody answers for is looked for as well, and in the end the call fails [FAIL-3]", () =>
    world(async (patient, counts) => {
      const error = await assertRejects(() =>
        patient.patiently(() => {
          counts.calls++;
          return Promise.reject(NO_LEADER);
        }), StoreUnavailableError);
      assertEquals(error, NO_LEADER);
      assertGreater(counts.calls, 2);
      assert(counts.found > 0 && counts.found < counts.calls, JSON.stringify(counts));
    }));

  server.test("another bucket under the same name is one more, and the same with another TTL is none [FAIL-3]", () =>
    world(async (patient, counts) => {
      await patient.saw("b", { created: CREATED, config: {} });
      assertEquals([counts.found, patient.replacements], [0, 0]);
      await patient.saw("b", { created: CREATED, config: { max_age: 1e9 } });
      assertEquals([counts.found, patient.replacements], [1, 0]);
    }));

  server.test("another failure is not made again", () =>
    world(async (patient, counts) => {
      const failing = () => {
        counts.calls++;
        return Promise.reject(new RangeError("no such thing"));
      };
      await assertRejects(() => patient.patiently(failing), RangeError);
      assertEquals(counts, { found: 0, calls: 1 });
    }));
});
