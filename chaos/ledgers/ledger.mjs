// zeroloss's ledger for Node: what a task body calls, so that the harness knows what was executed.
//
//     import { effect } from "./ledger.mjs";
//     await effect(task.id, { payload: text, attempt: n }, async () => { ... the work ... });
//
// `payload` is what arrived: JSON text (a string or a Buffer), compared byte for byte, or the value that was decoded.
// Without ZEROLOSS_LEDGER in the environment it only runs the body. One file a process, one write an event; threads of
// one process share its file. What a line means: docs/ledger.md of zeroloss. Standard library only; copy it freely.
import { createHash, randomBytes } from "node:crypto";
import { openSync, writeSync } from "node:fs";

const SHOWN_CALLS = 3;
const SHOWN_BYTES_MAX = 4096;

let opened = null; // the file of the process that opened it
let calls = 0;

export async function effect(task, { payload, attempt } = {}, body = () => {}) {
  const directory = process.env.ZEROLOSS_LEDGER;
  if (!directory) return await body();
  const file = fileOf(directory);
  const call = ++calls;
  const execution = `${file.prefix}-${call}`;
  const begin = { attempt };
  if (payload !== undefined) {
    const text = textOf(payload);
    begin.digest = createHash("sha256").update(text).digest("hex");
    if (call <= SHOWN_CALLS && text.length <= SHOWN_BYTES_MAX) begin.payload = text.toString("utf8");
  }
  write(file, "begin", task, execution, begin);
  let result;
  try {
    result = await body();
  } catch (error) {
    const text = `${error?.name ?? "Error"}: ${error?.message ?? error}`;
    // By way of UTF-8, which has no halves of a character.
    write(file, "error", task, execution, { error: Buffer.from(text.slice(0, 500)).toString() });
    throw error;
  }
  write(file, "end", task, execution, {});
  return result;
}

// SHA-256, in hex, of JSON text, or of a value's canonical JSON.
export function digest(payload) {
  return createHash("sha256").update(textOf(payload)).digest("hex");
}

function textOf(payload) {
  if (typeof payload === "string") return Buffer.from(payload, "utf8");
  return payload instanceof Uint8Array ? Buffer.from(payload) : Buffer.from(canonical(payload), "ascii");
}

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") {
    const text = typeof value === "bigint" ? String(value) : JSON.stringify(value);
    return text.replace(/[\u007f-\uffff]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
  }
  // By code points, where sort() would take UTF-16's halves.
  const names = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return `{${names.map((name) => `${canonical(name)}:${canonical(value[name])}`).join(",")}}`;
}

function fileOf(directory) {
  if (opened?.pid !== process.pid || opened.directory !== directory) {
    const fd = openSync(`${directory}/worker-${process.pid}.jsonl`, "a");
    opened = { pid: process.pid, directory, fd, prefix: `${process.pid}-${randomBytes(4).toString("hex")}` };
  }
  return opened;
}

function write(file, phase, task, execution, members) {
  const event = JSON.stringify({ pid: file.pid, kind: "effect", phase, task: String(task), execution, ...members });
  // A time in nanoseconds is beyond the whole numbers of JSON.stringify, so it is put in front as text.
  const line = Buffer.from(`{"t":${process.hrtime.bigint()},${event.slice(1)}\n`);
  if (writeSync(file.fd, line) !== line.length) throw new Error("an event of the ledger could not be written in full");
}
