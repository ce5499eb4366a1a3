// BullMQ's worker. `NODE_PATH` names the folder into which it was installed.
const fs = require("fs");
const { Worker } = require("bullmq");

const marks = process.env.BENCH_MARKS ? fs.openSync(process.env.BENCH_MARKS, "a") : null;
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };

async function work(job) {
  if (marks === null) return;
  const mark = Buffer.alloc(8);
  mark.writeBigInt64LE(process.hrtime.bigint() - BigInt(job.data.sentNs)); // CLOCK_MONOTONIC, as in mark.py
  fs.writeSync(marks, mark);
}

new Worker("bench", work, { connection, concurrency: 5, removeOnComplete: { count: 0 } });
