"use strict";
// Unpacks the run, tells the story of one task in words, and switches the theme. Whatever came from the run goes into the
// page as text, never as markup.
const words = {
  duration(ticks, step = 1) {
    const ms = ticks / 10;
    if (Math.max(ms, step / 10) >= 1000 && step >= 1000) return (ms / 1000).toFixed(step >= 10000 ? 0 : 1) + " s";
    return ms >= 1000 ? (ms / 1000).toFixed(step < 100 ? 4 : 2) + " s" : (step < 10 ? ms.toFixed(1) : ms.toFixed(0)) + " ms";
  },
  fault: fault => `fault ${fault.number} (${fault.name})\n${fault.text ?? ""}`,
  process: p => `process ${p.pid}\n${words.duration(p.from)} to ${words.duration(p.to)}${p.gone ? `\nended: ${p.gone}` : ""}`,
  execution(run, e) {
    const x = run.executions, end = ["did not end", "completed", "raised"][x.end[e]];
    return `${run.ids[x.task[e]].slice(0, 80)}\n${run.fates[run.fate[x.task[e]]]}: ${end} in process ${run.processes[x.pid[e]].pid}\n`
      + `${words.duration(x.begin[e])}, for ${words.duration(x.length[e] || x.until[e] - x.begin[e])}`;
  },
};

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const run = JSON.parse(await new Response(stream).text());
  const sum = deltas => { let at = 0; return Int32Array.from(deltas, delta => at += delta); };
  const x = run.executions = {
    task: sum(run.task_delta), begin: sum(run.begin_delta), pid: run.pid, length: run.length, end: run.end, attempt: run.attempt,
  };
  run.invoked = sum(run.invoked_delta);
  // A body that never ended stops, in the picture, where its process did.
  x.until = Int32Array.from(x.begin, (begin, e) => x.end[e] ? begin + x.length[e] : Math.max(begin, run.processes[x.pid[e]].gone ? run.processes[x.pid[e]].to : run.last));
  run.rows = new Map(run.ids.map((id, row) => [id, row]));
  const completed = new Uint16Array(run.ids.length);
  x.task.forEach((row, e) => { if (x.end[e] === 1) completed[row]++; });
  run.duplicated = completed.map(count => count > 1 ? 1 : 0);
  return run;
}

function story(run, row) {
  const told = [], x = run.executions, tell = (t, text, mark = "") => told.push({t, text, mark});
  if (run.outcome[row] >= 0) tell(run.invoked[row], "submitted");
  const outcome = ["", "acknowledged: promised", "refused", "outcome unknown"][Math.max(0, run.outcome[row])];
  if (outcome) tell(run.invoked[row] + run.answered[row], outcome);
  else if (run.outcome[row] === 0) tell(run.invoked[row], "no answer was recorded");
  // A fault that hit the process once the task had run its course is not part of its story.
  const lastBegin = Math.max(...x.begin.filter((_, e) => x.task[e] === row));
  x.task.forEach((owner, e) => {
    if (owner !== row) return;
    const where = `in process ${run.processes[x.pid[e]].pid}` + (x.attempt[e] ? `, attempt ${x.attempt[e]}` : "");
    tell(x.begin[e], `began ${where}`, ["killed", "completed", "error"][x.end[e]]);
    for (const fault of run.faults) {
      if (fault.effective !== undefined && fault.pids.includes(run.processes[x.pid[e]].pid) && fault.effective >= x.begin[e]) {
        const struck = (fault.struck ?? []).includes(row) && !x.end[e];
        if (!struck && fault.effective > lastBegin) continue;
        tell(fault.effective, `fault ${fault.number} (${fault.name}) ${struck ? "interrupted it" : "hit process " + run.processes[x.pid[e]].pid}: ${fault.text ?? ""}`, "killed");
      }
    }
    if (x.end[e]) tell(x.begin[e] + x.length[e], `${x.end[e] === 1 ? "completed" : "raised"} ${where}, after ${words.duration(x.length[e])}`, x.end[e] === 1 ? "completed" : "error");
    else tell(x.until[e], `this execution did not end (${run.processes[x.pid[e]].gone ?? "no end was recorded"})`, "killed");
  });
  for (const [owner, t, text] of run.extras) if (owner === row) tell(t, text);
  return told.map((event, number) => ({...event, number})).sort((a, b) => a.t - b.t || a.number - b.number);
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function showTask(run, id) {
  const place = document.getElementById("task"), row = run.rows.get(id);
  document.getElementById("id").value = id;
  if (row === undefined) {
    place.replaceChildren(element("p", `This page knows no task ${id.slice(0, 200)}.`, "quiet"));
    return;
  }
  const fate = run.fates[run.fate[row]], title = element("h3", id + " "), list = element("ol", "");
  title.append(element("span", fate, "fate " + fate.toLowerCase()));
  for (const {t, text, mark} of story(run, row)) {
    const item = element("li", "", mark);
    item.append(element("time", words.duration(t)), " " + text);
    list.append(item);
  }
  place.replaceChildren(title, list);
}

const taskInAddress = () => {
  const found = location.hash.match(/^#task=(.*)$/s);
  if (!found) return null;
  try { return decodeURIComponent(found[1]); } catch { return found[1]; }
};

async function start() {
  let redraw = () => {};
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });
  let run;
  try {
    run = await unpack(document.getElementById("data").textContent);
  } catch (error) {
    document.getElementById("timeline").replaceChildren(element("p", "This browser could not unpack the run; the tables are complete without it. " + error, "quiet"));
    return;
  }
  const go = id => { location.hash = "task=" + encodeURIComponent(id); };
  redraw = drawTimeline(run, go);
  const show = () => {
    const id = taskInAddress();
    if (id === null) return;
    document.getElementById("one").open = true;
    showTask(run, id);
    document.getElementById("one").scrollIntoView({block: "nearest"});
  };
  addEventListener("hashchange", show);
  document.getElementById("find").addEventListener("submit", event => { event.preventDefault(); go(document.getElementById("id").value.trim()); });
  const input = document.getElementById("id"), options = document.getElementById("ids");
  input.addEventListener("input", () => {
    const found = [];
    for (const id of run.ids) { if (id.startsWith(input.value)) found.push(id); if (found.length === 20) break; }
    options.replaceChildren(...found.map(id => { const option = element("option", ""); option.value = id; return option; }));
  });
  show();
  document.documentElement.dataset.ready = "yes";
}

start();
