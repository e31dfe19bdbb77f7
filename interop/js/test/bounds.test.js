import assert from "node:assert/strict";
import test from "node:test";

import { lock, unlock } from "../src/keyfile.js";
import { makePolicy } from "../src/policy.js";

test("a key text asks for no more than its bounds before anything is computed (SPEC 13.2)", () => {
  const seed = Buffer.alloc(32, 1);
  for (const [passes, memoryKib] of [
    [0, 8],
    [17, 8],
    [1, 7],
    [1, 2 ** 20 + 1],
  ]) {
    assert.throws(() => lock(seed, "", { passes, memoryKib }), /out of bounds/);
  }
  assert.ok(unlock(lock(seed, "", { passes: 16, memoryKib: 8 }), ""));
});

test("a policy is within its bounds (SPEC 11.2)", () => {
  const bounds = {
    maxAge: [1000, 86_400_000_000],
    maxFuture: [0, 60_000_000],
    maxSize: [144, 2 ** 31],
    window: [64, 65536],
    maxStreams: [1, 1024],
  };
  for (const [name, [low, high]] of Object.entries(bounds)) {
    for (const good of [low, high]) assert.equal(makePolicy({ [name]: good })[name], good);
    for (const bad of [low - 1, high + 1, low + 0.5, NaN, null, `${low}`]) {
      assert.throws(() => makePolicy({ [name]: bad }), /is from/);
    }
  }
  assert.throws(() => makePolicy({ require: "none" }), /signed or sealed/);
});
