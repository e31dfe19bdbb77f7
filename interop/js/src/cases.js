/** Cases as JSON, and their verdicts (SPEC 15.2 to 15.7). */
import { Identity, PublicIdentity } from "./identity.js";
import { Opener } from "./opener.js";
import { Refusal } from "./refusal.js";
import { OwnStreams } from "./streams.js";
import { Peer, TrustStore } from "./trust.js";

const ALL_IDS = 8;

/**
 * @param {object} testCase `trust`, `receiver` and `openings`
 * @param {Record<string, {seed: string, pub: string}>} keys
 * @returns {{result: string, message?: object}[]} one for each opening
 */
export function runCase(testCase, keys) {
  const clock = { now: testCase.openings[0].now };
  const opener = makeOpener(testCase, keys, () => clock.now);
  return testCase.openings.map((opening) => {
    clock.now = opening.now;
    return verdictOf(opener, opening);
  });
}

/** @param {object} testCase @param {Record<string, object>} keys @param {() => number} clock */
function makeOpener({ trust, receiver }, keys, clock) {
  const streams = new OwnStreams();
  const opener = new Opener({
    trust: new TrustStore(trust.map((entry) => makePeer(entry, keys))),
    context: receiver.context,
    identities: receiver.identities.map((name) => new Identity(unhex(keys[name].seed))),
    policy: makeRules(receiver.policy),
    cold: receiver.cold,
    clock,
    streams,
  });
  receiver.own_streams.forEach((stream) => streams.begin(unhex(stream)));
  return opener;
}

/** @param {object} entry @param {Record<string, object>} keys */
function makePeer(entry, keys) {
  return new Peer(entry.name, new PublicIdentity(unhex(keys[entry.key].pub)), {
    contexts: entry.contexts,
    topics: entry.topics && entry.topics.map(unhex),
    notBefore: entry.not_before,
    notAfter: entry.not_after,
    revoked: entry.revoked,
  });
}

/** @param {Record<string, unknown>} policy by the names of SPEC 11.2 */
function makeRules(policy) {
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(policy).map(([name, value]) => [camel(name), value]));
}

/** @param {Opener} opener @param {object} opening */
function verdictOf(opener, { envelope, bound, in_reply_to: request, bundle }) {
  const expected = { bound: bound.map(unhex), inReplyTo: request && unhex(request), bundle };
  try {
    return { result: "ok", message: describe(opener.open(unhex(envelope), expected)) };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { result: error.code };
  }
}

/** @param {import("./opener.js").Message[]} messages @returns {object} SPEC 15.6 */
function describe(messages) {
  const [first] = messages;
  const last = messages.length - 1;
  const shown = messages.filter(
    ({ index }) => messages.length <= ALL_IDS || index === 0 || index === last,
  );
  return {
    sender: first.sender.name,
    sealed: first.sealed,
    stream: hex(first.stream),
    sequence: first.sequence,
    sent_at: first.sentAt,
    skipped: first.skipped,
    payloads: messages.map(({ payload }) => hex(payload)),
    ids: Object.fromEntries(shown.map(({ index, id }) => [index, hex(id)])),
  };
}

/** @param {string} text @returns {Buffer} @throws {Error} Buffer.from would stop in silence */
export function unhex(text) {
  const bytes = Buffer.from(text, "hex");
  if (bytes.length * 2 !== text.length) throw new Error("not hexadecimal");
  return bytes;
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  return Buffer.from(bytes).toString("hex");
}
