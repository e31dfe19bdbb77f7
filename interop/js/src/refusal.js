/** What can be wrong with an envelope that was received (SPEC 12). */

export class Refusal extends Error {
  /** @param {string} code one of SPEC 12 */
  constructor(code) {
    super(code);
    this.name = "Refusal";
    this.code = code;
  }
}
