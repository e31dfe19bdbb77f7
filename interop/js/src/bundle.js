/** Bundles: a MessagePack array of bin, in its one encoding (SPEC 9). */
import { u16, u32 } from "./integers.js";
import { Refusal } from "./refusal.js";

const MAX_PAYLOADS = 4096;
const [FIXARRAY, ARRAY16, BIN8, BIN16, BIN32] = [0x90, 0xdc, 0xc4, 0xc5, 0xc6];

/** @param {Uint8Array[]} payloads 1 to 4096 @returns {Buffer} @throws {Error} */
export function encodeBundle(payloads) {
  if (payloads.length < 1 || payloads.length > MAX_PAYLOADS) {
    throw new Error(`a bundle has 1 to ${MAX_PAYLOADS} payloads`);
  }
  const parts = payloads.flatMap((payload) => [binHeader(payload.length), payload]);
  return Buffer.concat([arrayHeader(payloads.length), ...parts]);
}

/**
 * @param {Buffer} bytes authenticated
 * @returns {Buffer[]}
 * @throws {Refusal} malformed
 */
export function decodeBundle(bytes) {
  const reader = new Reader(bytes);
  const count = reader.arrayLength();
  require(count >= 1 && count <= MAX_PAYLOADS);
  const payloads = Array.from({ length: count }, () => reader.bin());
  require(reader.isAtEnd());
  return payloads;
}

/** @param {number} count */
function arrayHeader(count) {
  if (count < 16) return Buffer.from([FIXARRAY | count]);
  return Buffer.concat([Buffer.from([ARRAY16]), u16(count)]);
}

/** @param {number} size */
function binHeader(size) {
  if (size < 2 ** 8) return Buffer.from([BIN8, size]);
  if (size < 2 ** 16) return Buffer.concat([Buffer.from([BIN16]), u16(size)]);
  return Buffer.concat([Buffer.from([BIN32]), u32(size)]);
}

/** Reads from the front. The shortest form alone passes, so there is no other encoding. */
class Reader {
  #at = 0;

  /** @param {Buffer} bytes */
  constructor(bytes) {
    this.bytes = bytes;
  }

  arrayLength() {
    const first = this.#integer(1);
    if ((first & 0xf0) === FIXARRAY) return first & 0x0f;
    require(first === ARRAY16);
    const count = this.#integer(2);
    require(count >= 16);
    return count;
  }

  bin() {
    const width = { [BIN8]: 1, [BIN16]: 2, [BIN32]: 4 }[this.#integer(1)];
    require(width !== undefined);
    const size = this.#integer(width);
    require(width === 1 || size >= 2 ** (4 * width));
    return this.#take(size);
  }

  isAtEnd() {
    return this.#at === this.bytes.length;
  }

  /** @param {number} width */
  #integer(width) {
    return this.#take(width).readUIntBE(0, width);
  }

  /** @param {number} size */
  #take(size) {
    require(size <= this.bytes.length - this.#at);
    return this.bytes.subarray(this.#at, (this.#at += size));
  }
}

/** @param {boolean} holds */
function require(holds) {
  if (!holds) throw new Refusal("malformed");
}
