/** The only reader of the time. */

/** @returns {number} Unix us */
export function wallClock() {
  return Date.now() * 1000;
}

/**
 * The highest reading so far, from now on (SPEC 7.2 step 6, 7.6).
 *
 * @param {() => number} clock
 * @returns {() => number}
 */
export function highestOf(clock) {
  let highest = clock();
  return () => (highest = Math.max(highest, clock()));
}
