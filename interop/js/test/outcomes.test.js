import assert from "node:assert/strict";
import test from "node:test";

import { runCase } from "../src/cases.js";
import { outcomeFiles, readVectors } from "./vectors.js";

const CODES = [
  "bad_signature",
  "before_start",
  "future",
  "malformed",
  "not_addressed",
  "not_trusted",
  "ok",
  "policy",
  "reflected",
  "replayed",
  "stale",
  "too_large",
  "too_old",
  "unknown_sender",
  "unseal",
  "version",
];

test("there is a file for each outcome", () => {
  assert.deepEqual(
    outcomeFiles().sort(),
    CODES.map((code) => `${code}.json`),
  );
});

for (const name of outcomeFiles()) {
  const { outcome, keys, cases } = readVectors(name);
  test(`${name}: every opening of every case gives what it says`, () => {
    assert.equal(`${outcome}.json`, name);
    assert.ok(cases.length > 0);
    for (const each of cases) {
      const expected = each.openings.map(({ result, message }) =>
        message === undefined ? { result } : { result, message },
      );
      assert.equal(expected.at(-1).result, outcome, each.name);
      assert.deepEqual(runCase(each, keys), expected, each.name);
    }
  });
}
