/** Context and bound frames, as a caller may give them (SPEC 5.1, 11.1), and patterns (3.5). */

export const MAX_BOUND = 64;

/** @param {string} context @returns {string} @throws {Error} */
export function checkContext(context) {
  const bytes = Buffer.from(context, "utf8");
  // What is not well-formed has no UTF-8: it does not come back as it was.
  if (bytes.length < 1 || bytes.length > 255 || bytes.toString("utf8") !== context) {
    throw new Error("a context is 1 to 255 bytes of UTF-8");
  }
  return context;
}

/** @param {Uint8Array[]} bound @throws {Error} */
export function checkBound(bound) {
  if (!Array.isArray(bound) || !bound.every((frame) => frame instanceof Uint8Array)) {
    throw new Error("bound frames are an array of bytes");
  }
  if (bound.length > MAX_BOUND) throw new Error(`at most ${MAX_BOUND} bound frames`);
}

/**
 * @param {string} pattern
 * @returns {(context: string) => boolean}
 * @throws {Error} if it is no pattern
 */
export function compilePattern(pattern) {
  if (pattern === "*") return () => true;
  const open = pattern.endsWith(".*");
  const name = open ? pattern.slice(0, -2) : pattern;
  if (name === "" || name.includes("*")) throw new Error(`not a pattern of contexts: ${pattern}`);
  if (!open) return (context) => context === name;
  return (context) => context.startsWith(`${name}.`) && context.length > name.length + 1;
}
