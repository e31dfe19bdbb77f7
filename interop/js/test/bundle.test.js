import assert from "node:assert/strict";
import test from "node:test";

import { decodeBundle, encodeBundle } from "../src/bundle.js";
import { Refusal } from "../src/refusal.js";
import { readVectors } from "./vectors.js";

test("payloads are packed as in the vectors", () => {
  const row = readVectors("derive.json").envelopes.find(({ comment }) => comment === "bundle");
  assert.equal(encodeBundle([Buffer.from("one"), Buffer.from("two")]).toString("hex"), row.payload);
});

test("every length and count on both sides of a header's width comes back as it was", () => {
  for (const size of [0, 1, 255, 256, 65535, 65536, 100_000]) {
    const payloads = [Buffer.alloc(size, 1), Buffer.alloc(0), Buffer.alloc(size, 2)];
    assert.deepEqual(decodeBundle(encodeBundle(payloads)), payloads);
  }
  for (const count of [1, 15, 16, 255, 256, 4096]) {
    const payloads = Array.from({ length: count }, (_, index) => Buffer.from([index % 256]));
    assert.deepEqual(decodeBundle(encodeBundle(payloads)), payloads);
  }
});

test("no payload and one too many are nobody's bundle", () => {
  assert.throws(() => encodeBundle([]), /1 to 4096/);
  assert.throws(() => encodeBundle(Array(4097).fill(Buffer.alloc(0))), /1 to 4096/);
});

test("a bundle that is cut, longer, or longer than it has to be is malformed", () => {
  const good = encodeBundle([Buffer.from("one"), Buffer.from("two")]);
  for (let size = 0; size < good.length; size++) refused(good.subarray(0, size));
  refused(Buffer.concat([good, Buffer.alloc(1)]));
  refused(Buffer.from("dc0001c40161", "hex")); // array16 for one
  refused(Buffer.from("91c5000161", "hex")); // bin16 for one byte
  refused(Buffer.from("91c60000000161", "hex")); // bin32 for one byte
  refused(Buffer.from("91a161", "hex")); // str
  refused(Buffer.from("90", "hex"));
});

/** @param {Buffer} bytes */
function refused(bytes) {
  assert.throws(
    () => decodeBundle(bytes),
    (error) => error instanceof Refusal && error.code === "malformed",
    bytes.toString("hex"),
  );
}
