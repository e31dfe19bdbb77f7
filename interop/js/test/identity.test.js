import assert from "node:assert/strict";
import test from "node:test";
import { inspect } from "node:util";

import { hex, unhex } from "../src/cases.js";
import { Identity, PublicIdentity } from "../src/identity.js";
import { Peer, TrustStore } from "../src/trust.js";
import { readVectors } from "./vectors.js";

const PRIME = 2n ** 255n - 19n;
const [row] = readVectors("derive.json").identities;

/** @param {string} key a compressed Edwards point (x, y) @returns {string} (-x, -y) */
function plusOrderTwo(key) {
  const number = BigInt(`0x${hex(unhex(key).reverse())}`);
  const [sign, y] = [number >> 255n, number & (2n ** 255n - 1n)];
  const other = (PRIME - y) | ((1n - sign) << 255n);
  return hex(unhex(other.toString(16).padStart(64, "0")).reverse());
}

test("a sound key plus the point of order 2 is refused: CVE-2025-69277 (SPEC 3.4)", () => {
  const mixed = plusOrderTwo(row.pub.slice(0, 64));
  assert.notEqual(mixed, row.pub.slice(0, 64));
  assert.equal(plusOrderTwo(mixed), row.pub.slice(0, 64));
  const pub = unhex(mixed + row.pub.slice(64));
  assert.throws(() => new PublicIdentity(pub), /not a sound public key/);
});

test("what is printed of an identity has no secret", () => {
  const identity = Identity.parse(row.secret_text);
  const shown = inspect(identity, { showHidden: true, depth: 9 }) + JSON.stringify(identity);
  assert.ok(shown.includes("pub"));
  const secrets = [row.seed, row.ed_seed, row.x_secret, row.hedge];
  for (const secret of [...secrets, row.secret_text]) assert.ok(!shown.includes(secret));
  for (const secret of secrets) {
    // As inspect and JSON show bytes.
    assert.ok(!shown.includes(secret.slice(0, 16).match(/../g).join(" ")));
    assert.ok(!shown.includes([...unhex(secret)].slice(0, 8).join()));
  }
});

test("no key, and no half of one, stands twice in a trust store (SPEC 3.6)", () => {
  const [alice, bob] = [Identity.generate().public, Identity.generate().public];
  const half = new PublicIdentity(Buffer.concat([bob.ed25519, alice.x25519]));
  const peers = (...all) => all.map(([name, key]) => new Peer(name, key, { contexts: ["*"] }));
  assert.ok(new TrustStore(peers(["alice", alice], ["alice", bob])).get(bob.keyId));
  assert.throws(() => new TrustStore(peers(["alice", alice], ["alice", alice])), /twice/);
  assert.throws(() => new TrustStore(peers(["alice", alice], ["eve", alice])), /twice/);
  assert.throws(() => new TrustStore(peers(["alice", alice], ["eve", half])), /twice/);
});

test("a peer without patterns, or with an empty list of topics, is an error (SPEC 3.5)", () => {
  const key = Identity.generate().public;
  assert.throws(() => new Peer("alice", key, { contexts: [] }), /at least one pattern/);
  assert.throws(() => new Peer("alice", key, { contexts: ["*"], topics: [] }), /at least one/);
});
