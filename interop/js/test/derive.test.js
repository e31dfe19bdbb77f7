import assert from "node:assert/strict";
import test from "node:test";

import { hex, unhex } from "../src/cases.js";
import { compilePattern } from "../src/context.js";
import {
  aeadKeyOf,
  commitmentOf,
  epochOf,
  kekOf,
  nonceOf,
  placeOf,
  streamOf,
  wrapOf,
} from "../src/derive.js";
import { H } from "../src/hash.js";
import { Identity, PublicIdentity } from "../src/identity.js";
import { lock, unlock } from "../src/keyfile.js";
import { x25519, x25519Base } from "../src/primitives.js";
import { addresses, keyBlock, makeEnvelope } from "../src/sealer.js";
import { readVectors } from "./vectors.js";

const derive = readVectors("derive.json");

/** One function for each list. Rows come with their bytes as they are in JSON. */
const checks = {
  hashes({ label, key, data, hash }) {
    assert.equal(hex(H(64, label, [unhex(data)], key ? unhex(key) : null)), hash);
    assert.equal(hex(H(16, label, [unhex(data)], key ? unhex(key) : null)), hash.slice(0, 32));
  },

  identities(row) {
    const identity = new Identity(unhex(row.seed));
    assert.equal(hex(H(32, "env1-ed25519", [], unhex(row.seed))), row.ed_seed);
    assert.equal(hex(H(32, "env1-x25519", [], unhex(row.seed))), row.x_secret);
    assert.equal(identity.hedged(hex), row.hedge);
    assert.equal(hex(identity.public.pub), row.pub);
    assert.equal(hex(identity.public.keyId), row.key_id);
    assert.equal(String(identity.public), row.public_text);
    assert.equal(identity.export(), row.secret_text);
    assert.equal(hex(PublicIdentity.parse(row.public_text).pub), row.pub);
    assert.equal(Identity.parse(row.secret_text).export(), row.secret_text);
  },

  public_keys({ pub, sound }) {
    if (sound) assert.equal(hex(new PublicIdentity(unhex(pub)).pub), pub);
    else assert.throws(() => new PublicIdentity(unhex(pub)), /not a sound public key/);
  },

  patterns({ pattern, context, matches }) {
    if (matches === null) assert.throws(() => compilePattern(pattern), /not a pattern/);
    else assert.equal(compilePattern(pattern)(context), matches);
  },

  contexts({ context, bound, ctx }) {
    assert.equal(hex(placeOf(context, bound.map(unhex))), ctx);
  },

  streams({ seed, start, random, process, ns, stream }) {
    const from = { start, random: unhex(random), process, ns };
    assert.equal(
      hedged(seed, (hedge) => hex(streamOf(hedge, from))),
      stream,
    );
  },

  epochs({ seed, stream, random, now, ...row }) {
    const made = hedged(seed, (hedge) => epochOf(hedge, unhex(random), unhex(stream), now));
    const sender = new Identity(unhex(seed)).public;
    assert.equal(hex(made.e), row.e);
    assert.equal(hex(made.ck), row.ck);
    assert.equal(hex(made.ephemeral), row.ephemeral);
    assert.equal(hex(commitmentOf(made.ck, made.ephemeral, sender.pub, unhex(stream))), row.com);
    assert.equal(hex(aeadKeyOf(made.ck)), row.aead_key);
  },

  wraps(row) {
    const [e, ck, sender, stream] = [row.e, row.ck, row.sender, row.stream].map(unhex);
    const recipient = new PublicIdentity(unhex(row.recipient));
    const ephemeral = x25519Base(e);
    const shared = x25519(e, recipient.x25519);
    const com = commitmentOf(ck, ephemeral, sender, stream);
    const kek = kekOf({ ephemeral, recipient: recipient.pub, sender, stream, com }, shared);
    assert.equal(hex(shared), row.shared);
    assert.equal(hex(com), row.com);
    assert.equal(hex(kek), row.kek);
    assert.equal(hex(wrapOf(kek, ck)), row.wrap);
  },

  nonces({ seed, sequence, sent_at: sentAt, nonce, ...row }) {
    const [random, stream, ctx, payload] = [row.random, row.stream, row.ctx, row.payload].map(
      unhex,
    );
    const from = { random, stream, sequence, sentAt, ctx, payload };
    assert.equal(
      hedged(seed, (hedge) => hex(nonceOf(hedge, from))),
      nonce,
    );
  },

  envelopes(row) {
    const identity = new Identity(unhex(row.seed));
    const to = row.recipients.map((pub) => new PublicIdentity(unhex(pub)));
    to.sort((a, b) => Buffer.compare(a.keyId, b.keyId));
    const stream = unhex(row.stream);
    const block =
      row.e === null
        ? addresses(to)
        : keyBlock(identity.public, to, stream, unhex(row.e), unhex(row.ck));
    const made = makeEnvelope(identity, block, {
      context: row.context,
      bound: row.bound.map(unhex),
      payload: unhex(row.payload),
      bundle: row.bundle,
      stream,
      sequence: row.sequence,
      sentAt: row.sent_at,
      inReplyTo: row.in_reply_to === "" ? null : unhex(row.in_reply_to),
      random: unhex(row.random),
    });
    assert.equal(hex(made), row.envelope);
  },

  locked({ seed, passphrase, salt, nonce, passes, memory_kib: memoryKib, text }) {
    const options = { salt: unhex(salt), nonce: unhex(nonce), passes, memoryKib };
    assert.equal(lock(unhex(seed), passphrase, options), text);
    assert.equal(unlock(text, passphrase).export(), new Identity(unhex(seed)).export());
    assert.throws(() => unlock(text, `${passphrase}.`), /another passphrase/);
  },

  bad_texts({ text }) {
    assert.throws(() => PublicIdentity.parse(text), Error);
    assert.throws(() => Identity.parse(text), Error);
  },
};

/** @template T @param {string} seed @param {(hedge: Buffer) => T} derivation @returns {T} */
function hedged(seed, derivation) {
  return new Identity(unhex(seed)).hedged(derivation);
}

test("each list has its check", () => {
  const lists = Object.keys(derive).filter((name) => Array.isArray(derive[name]));
  assert.deepEqual(lists.sort(), Object.keys(checks).sort());
});

for (const [list, check] of Object.entries(checks)) {
  test(`derive.json, ${list}: each step gives what it says`, () => {
    assert.ok(derive[list].length > 0);
    for (const row of derive[list]) check(row);
  });
}
