/**
 * What this implementation says to cases: one case (SPEC 15.2) with its `keys` a line of
 * JSON on stdin, and for each a line with its list of verdicts on stdout.
 */
import { createInterface } from "node:readline";

import { runCase } from "./src/cases.js";

for await (const line of createInterface({ input: process.stdin })) {
  const each = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(runCase(each, each.keys))}\n`);
}
