// BullMQ's client: COUNT RATE PAYLOAD_BYTES, as feed.py. Without a rate it adds in bulk, a thousand at a time.
const { Queue } = require("bullmq");

const [count, rate, payloadBytes] = process.argv.slice(2).map(Number);
const url = new URL(process.env.REDIS_URL);
const queue = new Queue("bench", { connection: { host: url.hostname, port: Number(url.port) } });
const padding = "x".repeat(payloadBytes);
const options = { attempts: 3, removeOnComplete: true };
const job = (sentNs) => ({ name: "work", data: { sentNs: sentNs.toString(), padding }, opts: options });

async function paced() {
  await queue.waitUntilReady();
  const start = process.hrtime.bigint();
  for (let number = 0; number < count; number++) {
    const due = start + BigInt(Math.floor((number / rate) * 1e9));
    const wait = Number(due - process.hrtime.bigint()) / 1e6;
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const { name, data, opts } = job(process.hrtime.bigint());
    await queue.add(name, data, opts);
  }
}

async function bulk() {
  for (let first = 0; first < count; first += 1000) {
    await queue.addBulk(Array.from({ length: Math.min(1000, count - first) }, () => job(0n)));
  }
}

(rate ? paced() : bulk()).then(() => queue.close()).then(() => process.exit(0));
