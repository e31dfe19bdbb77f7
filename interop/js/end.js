/**
 * One end of a live exchange, told what to do by lines of JSON, one answer to each.
 *
 * The first line makes it: `identity` (envsec1), `peers` (name, key, contexts, topics as
 * text), `context`, `to` (envpub1, or null for everyone), `policy` (SPEC 11.2), `socket`
 * (its type) and `connect`. Then `{"do": ...}`: `send`, `sendBundle`, `receive`, `request`,
 * `reply`, `subscribed`. Bytes are hexadecimal. Its keys are new whenever a test begins, so nothing is cold.
 */
import { createInterface } from "node:readline";

import * as zmq from "zeromq";

import { hex, unhex } from "./src/cases.js";
import { bodyOf, messageId } from "./src/derive.js";
import { bindTopic, splitFrames } from "./src/frames.js";
import { Identity, PublicIdentity } from "./src/identity.js";
import { Opener } from "./src/opener.js";
import { Refusal } from "./src/refusal.js";
import { Sealer } from "./src/sealer.js";
import { Peer, TrustStore } from "./src/trust.js";
import { decode } from "./src/wire.js";

const SOCKETS = {
  push: zmq.Push,
  pull: zmq.Pull,
  sub: zmq.Subscriber,
  xpub: zmq.XPublisher,
  req: zmq.Request,
  rep: zmq.Reply,
  dealer: zmq.Dealer,
  router: zmq.Router,
};
const TIMEOUT_MS = 20_000;

class End {
  #last = null; // the message to reply to, and its route
  #repliers = new Map(); // a sealer for each sender: a reply is for it alone (SPEC 16.3)

  constructor({ identity, peers, context, to, policy = {}, socket, connect }) {
    this.identity = Identity.parse(identity);
    this.context = context;
    this.to = to && to.map((text) => PublicIdentity.parse(text));
    this.sealer = new Sealer(this.identity, { context, to: this.to });
    const trust = new TrustStore(peers.map(makePeer));
    const identities = [this.identity];
    this.opener = new Opener({ trust, context, identities, policy, firstLife: true });
    this.routed = socket === "dealer" || socket === "router";
    this.socket = new SOCKETS[socket]({ linger: 0 });
    if ("receiveTimeout" in this.socket) this.socket.receiveTimeout = TIMEOUT_MS;
    if (socket === "sub") this.socket.subscribe();
    this.socket.connect(connect);
  }

  async send({ payload, topic = null }) {
    return this.#put(this.sealer, "seal", unhex(payload), bind(topic));
  }

  async sendBundle({ payloads, topic = null }) {
    return this.#put(this.sealer, "sealBundle", payloads.map(unhex), bind(topic));
  }

  /** Wait for a subscription: before it, what an XPUB sends goes nowhere. */
  async subscribed() {
    await this.socket.receive();
    return { result: "ok" };
  }

  async receive() {
    return this.#open(await this.socket.receive(), { bundle: true });
  }

  /** Send, and take the one reply that is to this and from whom it was asked. */
  async request(order) {
    const { id } = await this.send(order);
    const asked = this.to && this.to.map(({ keyId }) => keyId);
    return this.#open(await this.socket.receive(), { inReplyTo: unhex(id), asked });
  }

  async reply({ payload, topic = null }) {
    const { message, route } = this.#last;
    const name = message.sender.name;
    if (!this.#repliers.has(name)) {
      const to = [message.sender];
      this.#repliers.set(name, new Sealer(this.identity, { context: this.context, to }));
    }
    const options = { ...bind(topic), inReplyTo: message.id };
    return this.#put(this.#repliers.get(name), "seal", unhex(payload), options, route);
  }

  async #put(sealer, seal, payload, options, route = this.routed ? [Buffer.alloc(0)] : []) {
    const envelope = sealer[seal](payload, options);
    const frames = [...options.bound, envelope];
    await this.socket.send([...route, ...frames]);
    const { head, body } = decode(envelope);
    const id = hex(messageId(head, bodyOf(body), 0));
    return { result: "ok", id, frames: frames.map(hex) };
  }

  #open(frames, expected) {
    try {
      const { route, bound, envelope, control } = splitFrames(frames, this.routed);
      const messages = this.opener.open(envelope, { ...expected, bound });
      if (control) return { result: "control" };
      this.#last = { message: messages[0], route };
      return { result: "ok", ...describe(messages) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { result: error.code };
    }
  }
}

function makePeer({ name, key, contexts, topics = null }) {
  const prefixes = topics && topics.map((topic) => Buffer.from(topic, "utf8"));
  return new Peer(name, PublicIdentity.parse(key), { contexts, topics: prefixes });
}

function bind(topic) {
  return { bound: bindTopic(topic === null ? null : unhex(topic)) };
}

function describe(messages) {
  const [{ sender, sealed, sequence, skipped, inReplyTo }] = messages;
  return {
    sender: sender.name,
    sealed,
    sequence,
    skipped,
    in_reply_to: inReplyTo && hex(inReplyTo),
    payloads: messages.map(({ payload }) => hex(payload)),
    ids: messages.map(({ id }) => hex(id)),
  };
}

let end = null;
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const answer = end === null ? {} : await end[order.do](order);
  end ??= new End(order);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
end?.socket.close();
