/** The files of tests/vectors, as they are (SPEC 15.1). */
import { readdirSync, readFileSync } from "node:fs";

const FOLDER = new URL("../../../tests/vectors/", import.meta.url);

/** Integers that a double does not hold come as BigInt: nanoseconds do (SPEC 15.1). */
export function readVectors(name) {
  const text = readFileSync(new URL(name, FOLDER), "utf8");
  return JSON.parse(text.replace(/": (\d{17,})/g, '": "$1n"'), (_, value) =>
    typeof value === "string" && /^\d{17,}n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
  );
}

/** @returns {string[]} the files of outcomes */
export function outcomeFiles() {
  const others = ["derive.json", "session.json"];
  return readdirSync(FOLDER).filter((name) => name.endsWith(".json") && !others.includes(name));
}
