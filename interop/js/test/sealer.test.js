import assert from "node:assert/strict";
import test from "node:test";

import { hex } from "../src/cases.js";
import { Identity } from "../src/identity.js";
import { Opener } from "../src/opener.js";
import { Refusal } from "../src/refusal.js";
import { Sealer } from "../src/sealer.js";
import { OwnStreams } from "../src/streams.js";
import { Peer, TrustStore } from "../src/trust.js";
import { decode } from "../src/wire.js";

const NOW = 1_800_000_000_000_000;
const SECOND = 1_000_000;
const context = "orders";
const [alice, bob, carol] = [1, 2, 3].map(() => Identity.generate());
const trust = new TrustStore([new Peer("alice", alice.public, { contexts: [context] })]);

/** A sealer of Alice's whose clock stands where `time.now` says. */
function makeSealer(options = {}) {
  const time = { now: NOW };
  const streams = new OwnStreams();
  return {
    time,
    sealer: new Sealer(alice, { context, clock: () => time.now, streams, ...options }),
  };
}

function makeOpener(options = {}) {
  const clock = () => NOW;
  return new Opener({ trust, context, identities: [bob], clock, firstLife: true, ...options });
}

test("a stream begins at 0, rises by one, and is another when the clock stepped back", () => {
  const { time, sealer } = makeSealer();
  const first = [0, 0, 1].map((later) => {
    time.now += later;
    return decode(sealer.seal(Buffer.from("x")));
  });
  assert.deepEqual(
    first.map(({ sequence }) => sequence),
    [0, 1, 2],
  );
  assert.equal(new Set(first.map(({ stream }) => hex(stream))).size, 1);
  time.now -= 1;
  const next = decode(sealer.seal(Buffer.from("x")));
  assert.equal(next.sequence, 0);
  assert.notDeepEqual(next.stream, first[0].stream);
});

test("a key block lasts ten minutes, and nonces never come twice", () => {
  const { time, sealer } = makeSealer({ to: [bob.public] });
  const seal = () => decode(sealer.seal(Buffer.from("x")));
  const [first, second] = [seal(), seal()];
  time.now += 600 * SECOND - 1;
  const last = seal();
  time.now += 1;
  const next = seal();
  assert.deepEqual(second.ephemeral, first.ephemeral);
  assert.deepEqual(last.recipients, first.recipients);
  assert.notDeepEqual(next.ephemeral, first.ephemeral);
  assert.equal(new Set([first, second, last, next].map(({ nonce }) => hex(nonce))).size, 4);
});

test("recipients stand once, by key id, and without who is revoked by now", () => {
  const until = { contexts: ["*"], notAfter: NOW + SECOND };
  const to = [bob.public, new Peer("carol", carol.public, until), bob.public];
  const { time, sealer } = makeSealer({ to });
  const idsOf = () =>
    decode(sealer.seal(Buffer.from("x"))).recipients.map(({ keyId }) => hex(keyId));
  assert.deepEqual(idsOf(), [bob, carol].map(({ public: { keyId } }) => hex(keyId)).sort());
  time.now += SECOND;
  assert.deepEqual(idsOf(), [hex(bob.public.keyId)]);
  const gone = new Peer("carol", carol.public, { contexts: ["*"], revoked: true });
  assert.throws(() => makeSealer({ to: [gone] }).sealer.seal(Buffer.from("x")), /no recipient/);
});

test("a mistake of the caller's takes no sequence number", () => {
  const { sealer } = makeSealer();
  assert.throws(() => sealer.seal("text"), /bytes/);
  assert.throws(() => sealer.seal(Buffer.alloc(1), { bound: ["topic"] }), /bytes/);
  assert.throws(() => sealer.seal(Buffer.alloc(1), { bound: Buffer.alloc(1) }), /array/);
  assert.throws(
    () => sealer.seal(Buffer.alloc(1), { bound: Array(65).fill(Buffer.alloc(0)) }),
    /64/,
  );
  assert.throws(() => sealer.seal(Buffer.alloc(1), { inReplyTo: Buffer.alloc(31) }), /32/);
  assert.throws(() => sealer.sealBundle([]), /1 to 4096/);
  assert.equal(decode(sealer.seal(Buffer.alloc(1))).sequence, 0);
  assert.throws(() => makeSealer({ context: "" }), /1 to 255/);
  assert.throws(() => makeSealer({ context: "\ud800" }), /UTF-8/);
});

test("a receiver that was told nothing begins cold: what is stamped before is refused", () => {
  const { time, sealer } = makeSealer();
  const opener = makeOpener({ firstLife: false });
  time.now = NOW + 2 * SECOND; // as far ahead as an earlier life may have accepted
  assert.throws(() => opener.open(sealer.seal(Buffer.from("x"))), refused("before_start"));
});

test("own streams that began after the memory are no matter of an earlier life", () => {
  const streams = new OwnStreams();
  const old = makeSealer({ streams }).sealer;
  const early = old.seal(Buffer.from("x"));
  const opener = makeOpener({ firstLife: false, streams });
  const late = makeSealer({ streams }).sealer.seal(Buffer.from("x"));
  assert.throws(() => opener.open(early), refused("before_start"));
  assert.equal(String(opener.open(late)[0].payload), "x");
});

test("a reply is refused from whom the request was not addressed to", () => {
  const id = Buffer.alloc(32, 1);
  const asked = { inReplyTo: id, asked: [carol.public.keyId] };
  const reply = makeSealer().sealer.seal(Buffer.from("x"), { inReplyTo: id });
  const opener = makeOpener();
  assert.throws(() => opener.open(reply, asked), refused("policy"));
  assert.equal(opener.open(reply, { ...asked, asked: [alice.public.keyId] }).length, 1);
});

test("the gap stands before the first payload of a bundle (SPEC 9.3)", () => {
  const { sealer } = makeSealer();
  sealer.seal(Buffer.from("lost"));
  const messages = makeOpener().open(sealer.sealBundle(Array(3).fill(Buffer.from("x"))), {
    bundle: true,
  });
  assert.deepEqual(
    messages.map(({ index, skipped }) => [index, skipped]),
    [
      [0, 1],
      [1, 0],
      [2, 0],
    ],
  );
});

test("the clock as it was when the receiver was made still counts (SPEC 7.6)", () => {
  const clock = { now: NOW + 60 * SECOND };
  const opener = makeOpener({ clock: () => clock.now });
  clock.now = NOW;
  assert.throws(() => opener.open(makeSealer().sealer.seal(Buffer.from("x"))), refused("stale"));
});

/** @param {string} code */
function refused(code) {
  return (error) => error instanceof Refusal && error.code === code;
}
