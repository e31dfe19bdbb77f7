/** Integers as bytes: unsigned and big-endian (SPEC 1.1). */

/** @param {number} value @returns {Buffer} */
export function u16(value) {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** @param {number} value @returns {Buffer} */
export function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/**
 * @param {number | bigint} value a number only where the field ends below 2^53
 * @returns {Buffer}
 */
export function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
