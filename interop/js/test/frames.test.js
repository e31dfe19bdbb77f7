import assert from "node:assert/strict";
import test from "node:test";

import { bindTopic, splitFrames } from "../src/frames.js";
import { Refusal } from "../src/refusal.js";

const frames = (...texts) => texts.map((text) => Buffer.from(text));

test("the envelope is last, bound frames stand before it, the route ends at an empty frame", () => {
  assert.deepEqual(splitFrames(frames("eu", "ENV"), false), {
    route: [],
    bound: frames("eu"),
    envelope: Buffer.from("ENV"),
    control: false,
  });
  const routed = splitFrames(frames("id", "", "", "ENV"), true);
  assert.deepEqual([routed.route, routed.bound], [frames("id", ""), frames("")]);
});

test("a routed message without the empty frame, or with nothing behind it, is malformed", () => {
  const malformed = (error) => error instanceof Refusal && error.code === "malformed";
  for (const texts of [["ENV"], ["id", "ENV"], [""], ["id", ""]]) {
    assert.throws(() => splitFrames(frames(...texts), true), malformed, texts.join());
  }
});

test("the last bound frame tells a control message", () => {
  const isControl = (...texts) => splitFrames(frames(...texts, "ENV"), false).control;
  for (const name of ["challenge", "answer", "sync", "done"]) {
    assert.ok(isControl(`envelope/v1/${name}`));
    assert.ok(isControl("eu", `envelope/v1/${name}`));
  }
  assert.ok(!isControl("envelope/v1/done", "eu"));
  assert.ok(!isControl("envelope/v1/other"));
});

test("nobody binds a topic that is reserved", () => {
  assert.deepEqual(bindTopic(null), []);
  assert.deepEqual(bindTopic(Buffer.from("envelope/v2")), frames("envelope/v2"));
  assert.throws(() => bindTopic(Buffer.from("envelope/v1/x")), /does not begin/);
});
