// A stand-in for your queue, so that what `zeroloss init` wrote runs: put your worker and your client in its place.
//
//     node queue.mjs worker            takes tasks by BRPOP, and loses what it holds when it is killed
//     node queue.mjs worker reliable   takes each under a lease, after which another worker takes it again
//     node queue.mjs client            submits what it reads, by zeroloss's lines: docs/ledger.md
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { effect } from "./ledger.mjs";

const LEASE_MS = 2000;
const PENDING = `${process.env.ZEROLOSS_NAMESPACE}:pending`;
const HELD = `${process.env.ZEROLOSS_NAMESPACE}:held`;
const CLAIM = `
  local now = redis.call("TIME")
  local ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local task = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ms, "LIMIT", 0, 1)[1] or redis.call("RPOP", KEYS[1])
  if task then redis.call("ZADD", KEYS[2], ms + ARGV[1], task) end
  return task`;

class Redis {
  #socket;
  #text = Buffer.alloc(0);
  #waiting = [];

  static async open() {
    const url = new URL(process.env.REDIS_URL);
    const redis = new Redis();
    redis.#socket = connect(Number(url.port || 6379), url.hostname);
    redis.#socket.on("data", (bytes) => redis.#take(bytes));
    redis.#socket.on("close", () => redis.#fail(new Error("the connection was closed")));
    redis.#socket.on("error", (error) => redis.#fail(error));
    if (url.password) await redis.send("AUTH", url.username || "default", decodeURIComponent(url.password));
    await redis.send("SELECT", url.pathname.slice(1) || "0");
    return redis;
  }

  send(...words) {
    const parts = words.map((word) => Buffer.from(String(word)));
    const lines = parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")]);
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) return reject(new Error("the connection was closed"));
      this.#waiting.push({ resolve, reject });
      this.#socket.write(Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...lines]));
    });
  }

  #fail(error) {
    this.#socket.destroy();
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #take(bytes) {
    this.#text = Buffer.concat([this.#text, bytes]);
    for (let reply; this.#waiting.length && (reply = this.#parse(0)); ) {
      this.#text = this.#text.subarray(reply.end);
      const { resolve, reject } = this.#waiting.shift();
      reply.value instanceof Error ? reject(reply.value) : resolve(reply.value);
    }
  }

  // One reply from a place on, and where it ends; null: it is not all there yet.
  #parse(from) {
    const stop = this.#text.indexOf("\r\n", from);
    if (stop < 0) return null;
    const kind = this.#text.toString("latin1", from, from + 1);
    const rest = this.#text.toString("utf8", from + 1, stop);
    const end = stop + 2;
    if (kind === "+") return { value: rest, end };
    if (kind === "-") return { value: new Error(rest), end };
    if (kind === ":") return { value: Number(rest), end };
    const count = Number(rest);
    if (count < 0) return { value: null, end };
    if (kind === "$") {
      const whole = this.#text.length >= end + count + 2;
      return whole ? { value: this.#text.subarray(end, end + count), end: end + count + 2 } : null;
    }
    const members = { value: [], end };
    for (let number = 0; number < count; number++) {
      const member = this.#parse(members.end);
      if (!member) return null;
      members.value.push(member.value);
      members.end = member.end;
    }
    return members;
  }
}

async function worker(reliable) {
  const redis = await Redis.open();
  for (;;) {
    const task = reliable
      ? await redis.send("EVAL", CLAIM, 2, PENDING, HELD, LEASE_MS)
      : (await redis.send("BRPOP", PENDING, 1))?.[1];
    if (!task) {
      if (reliable) await sleep(50);
      continue;
    }
    const payload = JSON.parse(task);
    await effect(payload.id, { payload: task }, () => sleep(payload.work_ms));
    if (reliable) await redis.send("ZREM", HELD, task);
  }
}

async function client() {
  let redis = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const { request, payload } = JSON.parse(line);
    let answer = { request, outcome: "ok" };
    try {
      redis ??= await Redis.open();
      await redis.send("LPUSH", PENDING, payload);
    } catch (error) {
      redis = null; // the next request connects again
      answer = { request, outcome: "unknown", error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

const [role, how] = process.argv.slice(2);
await (role === "client" ? client() : worker(how === "reliable"));
