// The overview: what is wrong, the numbers of this second, the charts, who works.
import {NONE, age, ask, at, cell, clock, make, number, rate, shard, short} from "./format.js";
import {draw} from "./charts.js";
import {forgetLists, openTab} from "./lists.js";

const POLL_MS = 1000, SERIES_EVERY_MS = 10000, TIMEOUT_MS = 5000, RATE_OVER_MS = 5000, RUNNING_SHOWN = 3, GAP_MS = 30000;
const COUNTS = ["pending", "processing", "delayed", "dead_letter"];
const PRIORITIES = ["high", "default", "low"];
// Where each member of a reading is shown, and what the line below its number says as long as it can be read.
const TILES = {
  pending: "pending", processing: "processing", awaiting_recovery: "processing", delayed: "delayed",
  dead_letter: "dead_letter", oldest_pending_age_ms: "oldest", consumers: "live", counters: "throughput",
};
const lineBelow = id => at(id).nextElementSibling;
const MEANINGS = Object.values(TILES).map(id => [id, lineBelow(id).textContent]);
let samples = [], lastReadAt = null, series = null, seriesAt = -Infinity, seriesTurn = 0, minutes = 10, reading = null;

// Over the last few seconds, by Redis's clock. A counter or a clock that went back is another queue's, or a new one's.
function throughput(reading) {
  const sample = {t: reading.time_ms, done: reading.counters.completed}, last = samples.at(-1);
  if (sample.done === null) { samples = []; return null; }
  if (last && (sample.done < last.done || sample.t <= last.t)) samples = [];
  samples.push(sample);
  while (samples.length > 2 && sample.t - samples[1].t >= RATE_OVER_MS) samples.shift();
  return samples.length < 2 ? null : (sample.done - samples[0].done) * 1000 / (sample.t - samples[0].t);
}

function explain(unreadable) {
  const lines = [...MEANINGS, ...Object.entries(unreadable).filter(([name]) => TILES[name])
    .map(([name, why]) => [TILES[name], why, "warn"])];
  for (const [id, text, look = ""] of lines) Object.assign(lineBelow(id), {textContent: text, className: look});
  Object.assign(at("info-note"), {textContent: unreadable.info ?? "", hidden: !unreadable.info});
}

function showConsumers(consumers) {
  const rows = (consumers ?? []).map(consumer => {
    const tasks = consumer.running.map(task => `${task.type}, ${age(task.running_ms)}`);
    const more = tasks.length > RUNNING_SHOWN ? [`and ${tasks.length - RUNNING_SHOWN} more`] : [];
    const running = make("td", {className: "text lines", title: tasks.join("\n"),
      textContent: [...tasks.slice(0, RUNNING_SHOWN), ...more].join("\n") || NONE});
    const holding = make("td", {}, make("a", {
      textContent: number(consumer.holding), href: "#tasks/" + encodeURIComponent(consumer.name), title: "What it holds"}));
    const row = make("tr", {},
      cell(consumer.name), cell(consumer.host || NONE, "text"), cell(consumer.version || NONE, "text"),
      cell(age(consumer.age_ms)), holding, cell(age(consumer.heartbeat_age_ms)), cell(age(consumer.lease_left_ms)),
      running);
    if (consumer.lease_left_ms !== null && consumer.lease_left_ms < consumer.heartbeat_age_ms)
      row.children[5].className = "late";
    return row;
  });
  at("consumers").tBodies[0].replaceChildren(...rows);
  at("consumers").hidden = rows.length === 0;
  at("nobody").hidden = rows.length > 0;
  at("nobody").textContent = consumers ? "No worker is alive: nothing will be processed until one starts." : NONE;
}

function showTroubles(troubles) {
  const wanted = troubles.map(trouble => trouble.level + trouble.title + trouble.detail).join("\n");
  if (at("troubles").dataset.shown === wanted) return;  // a reader of the screen hears of changes only
  at("troubles").dataset.shown = wanted;
  at("troubles").replaceChildren(...troubles.map(trouble =>
    make("li", {className: trouble.level}, make("strong", {textContent: trouble.title}), trouble.detail)));
}

// The charts have one queue's past: with several shards, that of the chosen one.
function showShards(shards) {
  const names = Object.keys(shards);
  at("shards").hidden = names.length === 0;
  if (at("shard").options.length !== names.length)
    at("shard").replaceChildren(...names.map(name => make("option", {textContent: name})));
}

function showReading() {
  showShards(reading.shards ?? {});
  clock.ahead = reading.time_ms - Date.now();
  if (document.body.className === "down") openTab();
  lastReadAt = new Date();
  document.body.className = "up";
  document.title = number(reading.pending) + " pending · Queue monitor";
  at("banner").hidden = true;
  at("state").textContent = "read " + lastReadAt.toLocaleTimeString();
  for (const name of COUNTS) at(name).textContent = number(reading[name]);
  explain(reading.unreadable);
  const lost = reading.awaiting_recovery;
  if (lost && !reading.unreadable.processing)
    Object.assign(at("recovery"), {textContent: number(lost) + " awaiting recovery", className: "warn"});
  at("throughput").textContent = rate(throughput(reading));
  at("oldest").textContent = age(reading.oldest_pending_age_ms);
  at("live").textContent = number(reading.consumers && reading.consumers.length);
  showTroubles([...reading.troubles, ...(series?.troubles ?? [])]);
  showConsumers(reading.consumers);
  at("counters").replaceChildren(...Object.entries(reading.counters).map(([name, count]) =>
    make("div", {}, make("dt", {textContent: name.replace("_", "-")}), make("dd", {textContent: number(count)}))));
}

// No number stays on the page that was not just read.
function showFailure(headline, detail) {
  reading = series = null;
  seriesAt = -Infinity;
  samples = [];
  if (document.body.className !== "down") forgetLists();
  document.body.className = "down";
  document.title = headline + " · Queue monitor";
  at("banner").hidden = false;
  const [strong, span] = at("banner").children;
  if (strong.textContent !== headline) strong.textContent = headline;
  const since = lastReadAt ? " Last read at " + lastReadAt.toLocaleTimeString() + "." : "";
  if (span.textContent !== detail + since) span.textContent = detail + since;
  at("state").textContent = "no reading";
  for (const id of [...COUNTS, "throughput", "oldest", "live", "nobody"]) at(id).textContent = NONE;
  explain({});
  showTroubles([]);
  at("consumers").hidden = at("vanished-card").hidden = true;
  at("nobody").hidden = false;
  at("counters").replaceChildren();
  drawCharts();
}

// How fast a counter grew between two points. One that went back is another queue's; over a longer gap it is a mean.
function rates(points, name) {
  return points.slice(1).map((point, index) => {
    const before = points[index], [from, to] = [before.counters[name], point.counters[name]];
    const seconds = (point.time_ms - before.time_ms) / 1000;
    const rate = from === null || to === null || to < from || seconds <= 0 ? null : (to - from) / seconds;
    return seconds * 1000 > GAP_MS ? [[before.time_ms + 1, rate], [point.time_ms, rate]] : [[point.time_ms, rate]];
  }).flat();
}

// A line is broken where no worker noted anything for a while: what was in between was not read.
function broken(points, gapMs) {
  return points.flatMap((point, index) =>
    index && point[0] - points[index - 1][0] > gapMs ? [[point[0] - 1, null], point] : [point]);
}

function drawCharts() {
  const to = reading?.time_ms ?? series?.time_ms ?? clock.now(), from = to - minutes * 60000;
  const noted = series?.points ?? [];
  const last = reading?.shards ? reading.shards[series?.queue] : reading;
  const now = last && series && (!noted.length || last.time_ms - noted.at(-1).time_ms >= 2000) ? [{
    time_ms: last.time_ms, counters: last.counters,
    pending: last.pending_by_priority, oldest_ms: last.oldest_by_priority_ms}] : [];
  const points = [...noted, ...now].filter(point => point.time_ms >= from - 15000);
  const clip = list => list.filter(point => point[0] >= from);
  const by = member => PRIORITIES.map(name => ({name, points: broken(clip(points.map(p => [p.time_ms, p[member][name] ?? null])), GAP_MS)}));
  draw("chart-rates", ["enqueued", "completed", "failed"].map(name => ({name, points: clip(rates(points, name))})),
    from, to, rate, 1);
  draw("chart-backlog", by("pending"), from, to, number, 10);
  // Where nothing waits, nothing is old.
  const ages = by("oldest_ms").map((line, index) => ({name: line.name, points: line.points.map(([ms, value]) =>
    [ms, value ?? (points.find(p => p.time_ms === ms)?.pending[PRIORITIES[index]] === 0 ? 0 : null)])}));
  draw("chart-oldest", ages, from, to, age, 1000, true);
  const latency = (name, member) => ({name, points: broken(clip((series?.latencies ?? []).map(l =>
    [Math.min(l.time_ms + 30000, to), l[member]])), 90000)});
  draw("chart-latency", [latency("p50", "wait_p50"), latency("p95", "wait_p95")], from, to, short, 10, true);
  at("series-note").textContent = series?.unreadable.series ?? (series && !noted.length
    ? "Workers note what is shown here; none has in this time." : "");
}

async function readSeries() {
  const turn = ++seriesTurn;
  seriesAt = performance.now();
  try {
    const [read, gone] = await Promise.all([ask(`series?minutes=${minutes}${shard()}`), ask("vanished").catch(() => null)]);
    // Redis went away meanwhile, or other charts were asked for
    if (!reading || turn !== seriesTurn) return;
    series = read;
    showVanished(gone?.vanished ?? [], read.time_ms);
  } catch (error) {
    if (turn !== seriesTurn) return;
    at("series-note").textContent = error.message;
  }
  drawCharts();
}

function showVanished(vanished, now_ms) {
  const recent = vanished.filter(one => now_ms - one.time_ms < 3600000);
  at("vanished-card").hidden = recent.length === 0;
  at("vanished").tBodies[0].replaceChildren(...recent.map(one => make("tr", {},
    cell(one.consumer), cell(one.host || NONE, "text"), cell(age(Math.max(0, now_ms - one.time_ms)) + " ago"),
    cell(number(one.recovered)), cell(number(one.dead_lettered), one.dead_lettered ? "late" : ""))));
}

async function poll() {
  try {
    const response = await fetch("stats", {cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS)});
    const answer = await response.json();
    if (response.ok) { reading = answer; showReading(); }
    else if (response.status === 503)
      showFailure(answer.type.endsWith(":redis-unavailable") ? "Redis is down" : "The queue cannot be read", answer.detail);
    else showFailure("The monitor is broken", answer.detail);
    if (reading && performance.now() - seriesAt >= SERIES_EVERY_MS) readSeries();
  } catch (error) {
    showFailure("The monitor does not answer", "Its process is gone or cannot be reached; the queue may be well.");
  }
  setTimeout(poll, POLL_MS);
}

for (const button of document.querySelectorAll("[data-minutes]"))
  button.addEventListener("click", () => {
    minutes = Number(button.dataset.minutes);
    for (const other of document.querySelectorAll("[data-minutes]"))
      other.setAttribute("aria-pressed", String(other === button));
    readSeries();
  });
at("shard").addEventListener("change", () => readSeries());
addEventListener("resize", drawCharts);
addEventListener("hashchange", () => { openTab(); if (reading) drawCharts(); });
openTab();
drawCharts();
poll();
