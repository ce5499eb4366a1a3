// The worker and the client of `bullmq`.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { effect } from "../ledgers/ledger.mjs";

const require = createRequire(import.meta.url); // which looks in NODE_PATH, as import does not
const { Queue, Worker } = require("bullmq");
const IORedis = require("ioredis");

const connect = (options) => new IORedis(process.env.REDIS_URL, options);

if (process.argv[2] === "worker") {
  const options = { concurrency: 4, lockDuration: 5000, stalledInterval: 2000 };
  const work = (job) => effect(job.data.id, { payload: job.data }, () => sleep(job.data.work_ms));
  const worker = new Worker("zeroloss", work, { connection: connect({ maxRetriesPerRequest: null }), ...options });
  worker.on("error", (error) => console.error(String(error)));
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
} else {
  const queue = new Queue("zeroloss", { connection: connect({ maxRetriesPerRequest: 1, enableOfflineQueue: true }) });
  queue.on("error", (error) => console.error(String(error)));
  createInterface({ input: process.stdin }).on("line", async (line) => {
    const { request, task, payload } = JSON.parse(line);
    let answer = { request, outcome: "ok" };
    try {
      await queue.add("work", JSON.parse(payload), { jobId: task });
    } catch (error) {
      answer = { request, outcome: "unknown", error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
}
