"use strict";
// The picture of the run: one row per worker, in it one thin line per body that runs at the same time.
function drawTimeline(run, onTask) {
  const canvas = document.querySelector("#timeline canvas");
  const tip = document.getElementById("tip");
  const LEFT = 78, STRIPS = 8, AXIS = 38, GAP = 6, TOP = STRIPS + (run.traffic ? TRAFFIC_HEIGHT : 0);
  const lanes = layOut(run);
  const rowHeight = lanes.map(lane => Math.max(16, Math.min(60, lane.depth * 8), Math.min(lane.depth * 1.5, 160)));
  const rowTop = [];
  let height = TOP;
  for (const row of rowHeight) { rowTop.push(height); height += row + GAP; }
  const bottom = Math.max(height, 60);
  const last = Math.max(run.last, 1);
  let from = 0, to = last, width = 0, colours = {}, queued = false;
  // Of a run that failed, first only what went wrong: its tasks, and the faults that interrupted them, if any did.
  const wrong = new Set(run.wrong), interrupted = fault => (fault.struck ?? []).some(row => wrong.has(row));
  const matters = run.faults.some(interrupted) ? interrupted : () => true, focus = document.getElementById("focus");
  focus.checked = wrong.size > 0;
  focus.parentElement.hidden = !wrong.size;
  const pale = e => focus.checked && !wrong.has(run.executions.task[e]);
  const shown = () => focus.checked ? run.faults.filter(matters) : run.faults;

  const x = t => LEFT + (t - from) / (to - from) * (width - LEFT);
  const time = px => from + (px - LEFT) / (width - LEFT) * (to - from);
  const colour = e => run.duplicated[run.executions.task[e]] && run.executions.end[e] === 1 ? "duplicate"
    : ["killed", "completed", "error"][run.executions.end[e]];

  function layOut(run) {
    const count = Math.max(1, ...run.processes.map(p => p.lane + 1));
    const lanes = Array.from({length: count}, () => ({depth: 1, executions: []}));
    const free = run.processes.map(() => []);
    const {pid, begin, until} = run.executions;
    run.line = new Uint16Array(begin.length);
    for (let e = 0; e < begin.length; e++) {
      const lines = free[pid[e]], lane = lanes[run.processes[pid[e]].lane];
      let line = lines.findIndex(end => end <= begin[e]);
      if (line < 0) line = lines.length;
      lines[line] = until[e];
      run.line[e] = line;
      lane.depth = Math.max(lane.depth, line + 1);
      lane.executions.push(e);
    }
    return lanes;
  }

  function box(e) {
    const lane = run.processes[run.executions.pid[e]].lane, step = rowHeight[lane] / lanes[lane].depth;
    const left = x(run.executions.begin[e]);
    return [left, rowTop[lane] + run.line[e] * step, Math.max(1, x(run.executions.until[e]) - left), Math.max(1, step - (step > 4 ? 1 : 0))];
  }

  function draw() {
    queued = false;
    const scale = window.devicePixelRatio || 1;
    width = canvas.parentElement.clientWidth;
    canvas.width = width * scale; canvas.height = (bottom + AXIS) * scale; canvas.style.height = bottom + AXIS + "px";
    const style = getComputedStyle(document.documentElement);
    for (const name of ["completed", "killed", "error", "duplicate", "band", "lane", "line", "quiet", "card", "request", "backlog", "redelivery"]) colours[name] = style.getPropertyValue("--" + name);
    const c = canvas.getContext("2d");
    c.scale(scale, scale);
    c.font = "12px system-ui, sans-serif";
    rows(c); axis(c);
    c.save();
    c.beginPath(); c.rect(LEFT, 0, width - LEFT, bottom); c.clip();
    bands(c); bars(c); marks(c);
    c.restore();
    if (run.traffic) drawTraffic(c, run.traffic, {x, left: LEFT, top: STRIPS, width, from, to, colours});
  }

  function rows(c) {
    c.textBaseline = "middle"; c.textAlign = "left";
    lanes.forEach((lane, row) => {
      c.fillStyle = colours.quiet;
      c.fillText("worker " + (row + 1), 0, rowTop[row] + rowHeight[row] / 2, LEFT - 8);
    });
    c.save();
    c.beginPath(); c.rect(LEFT, 0, width - LEFT, bottom); c.clip();
    c.fillStyle = colours.lane;
    for (const p of run.processes) c.fillRect(x(p.from), rowTop[p.lane], Math.max(2, x(p.to) - x(p.from)), rowHeight[p.lane]);
    c.restore();
  }

  function axis(c) {
    const span = to - from, raw = span / Math.max(2, (width - LEFT) / 110), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= raw);
    c.strokeStyle = colours.line; c.fillStyle = colours.quiet; c.textAlign = "center"; c.textBaseline = "top";
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const at = Math.round(x(t)) + .5;
      c.beginPath(); c.moveTo(at, STRIPS); c.lineTo(at, bottom); c.stroke();
      if (at < width - 20) c.fillText(words.duration(t, step), at, bottom + 5);
    }
    c.setLineDash([4, 3]); c.strokeStyle = colours.quiet;
    let named = -Infinity;
    for (const [t, phase] of run.phases) {
      if (phase === "begin" || phase === "end" || t < from || t > to) continue;
      const at = Math.round(x(t)) + .5;
      c.beginPath(); c.moveTo(at, 0); c.lineTo(at, bottom); c.stroke();
      if (at - named > 60) { c.fillText(phase, Math.min(at, width - 28), bottom + 21); named = at; }
    }
    c.setLineDash([]);
  }

  function bands(c) {
    c.fillStyle = colours.band;
    for (const fault of shown()) {
      const begin = fault.begin ?? fault.effective ?? fault.missed, end = fault.end ?? fault.effective ?? fault.missed ?? begin;
      if (begin === undefined || end < from || begin > to) continue;
      c.fillRect(x(begin), 0, Math.max(2, x(end) - x(begin)), bottom);
    }
  }

  function bars(c) {
    // Plain ones first, so that what matters is never hidden; one fill per colour and pixel keeps 100,000 fluent.
    const kinds = ["completed", "duplicate", "error", "killed"], last = new Map();
    for (const [name, faint] of [...kinds.map(name => [name, true]), ...kinds.map(name => [name, false])]) {
      c.fillStyle = colours[name];
      c.globalAlpha = faint ? .15 : 1;
      last.clear();
      for (const lane of lanes) for (const e of lane.executions) {
        if (run.executions.until[e] < from || run.executions.begin[e] > to || pale(e) !== faint || colour(e) !== name) continue;
        const [left, top, wide, high] = box(e);
        const right = Math.max(left + wide, left + (name === "completed" ? 1 : 2.5));
        if (name === "completed" && (last.get(top) ?? -1) >= right) continue;
        last.set(top, Math.ceil(left));
        c.fillRect(left, top, right - left - (wide > 4 ? .7 : 0), high);
      }
    }
    c.globalAlpha = 1;
  }

  function marks(c) {
    const rowOf = new Map(run.processes.map(p => [p.pid, p.lane]));
    for (const fault of shown()) {
      if (fault.effective === undefined) continue;
      for (const pid of fault.pids) {
        if (!rowOf.has(pid)) continue;
        const at = x(fault.effective), middle = rowTop[rowOf.get(pid)] + rowHeight[rowOf.get(pid)] / 2, r = 5;
        for (const [stroke, line] of [[colours.card, 6], [colours.killed, 2.5]]) {
          c.strokeStyle = stroke; c.lineWidth = line; c.lineCap = "round";
          c.beginPath(); c.moveTo(at - r, middle - r); c.lineTo(at + r, middle + r); c.moveTo(at - r, middle + r); c.lineTo(at + r, middle - r); c.stroke();
        }
        c.lineWidth = 1;
      }
    }
  }

  function executionAt(px, py) {
    for (const name of ["killed", "error", "duplicate", "completed"]) {
      for (const lane of lanes) for (const e of lane.executions) {
        if (colour(e) !== name) continue;
        const [left, top, wide, high] = box(e);
        if (px >= left - 2 && px <= left + Math.max(wide, 2) + 1 && py >= top && py <= top + high + 1) return e;
      }
    }
    return -1;
  }

  function describe(px, py) {
    if (px < LEFT || py > bottom) return "";
    for (const fault of shown()) {
      const at = fault.effective ?? fault.missed;
      if (at !== undefined && Math.abs(x(at) - px) < 5) return words.fault(fault);
    }
    if (run.traffic && py < TOP) return describeTraffic(run.traffic, time(px));
    const e = executionAt(px, py);
    if (e >= 0) return words.execution(run, e);
    const p = run.processes.find(p => py >= rowTop[p.lane] && py <= rowTop[p.lane] + rowHeight[p.lane] && px >= x(p.from) && px <= x(p.to));
    return p ? words.process(p) : "";
  }

  const redraw = () => { if (!queued) { queued = true; requestAnimationFrame(draw); } };
  let grabbed = null, moved = false;
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const anchor = time(event.offsetX), factor = event.deltaY > 0 ? 1.25 : .8;
    const span = Math.min(last, Math.max(20, (to - from) * factor)), share = (anchor - from) / (to - from);
    from = Math.max(0, Math.min(last - span, anchor - share * span)); to = from + span;
    redraw();
  }, {passive: false});
  canvas.addEventListener("pointerdown", event => { grabbed = event.clientX; moved = false; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", event => {
    if (grabbed !== null) {
      const shift = (grabbed - event.clientX) / (width - LEFT) * (to - from), span = to - from;
      if (Math.abs(grabbed - event.clientX) > 3) moved = true;
      if (moved) { from = Math.max(0, Math.min(last - span, from + shift)); to = from + span; grabbed = event.clientX; tip.hidden = true; redraw(); }
      return;
    }
    tip.textContent = describe(event.offsetX, event.offsetY);
    tip.hidden = !tip.textContent;
    tip.style.left = Math.min(event.offsetX + 14, Math.max(0, width - 340)) + "px"; tip.style.top = event.offsetY + 16 + "px";
  });
  canvas.addEventListener("pointerup", event => {
    grabbed = null;
    const e = moved ? -1 : executionAt(event.offsetX, event.offsetY);
    if (e >= 0) onTask(run.ids[run.executions.task[e]]);
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", () => { from = 0; to = last; redraw(); });
  focus.addEventListener("change", redraw);
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  draw();
  return redraw;
}
