"use strict";
// The load above the timeline, on the same axis: requests and failures, the backlog, and how soon interrupted tasks ran again.
const STRIP_HEIGHT = 46, STRIP_GAP = 10, TRAFFIC_HEIGHT = 3 * (STRIP_HEIGHT + STRIP_GAP) + 4;

function perSecond(traffic, count) {
  return count / (traffic.step / 10000);
}

function drawTraffic(c, traffic, {x, left, top, width, from, to, colours}) {
  const {step, requests, failures, backlog, redelivered} = traffic;
  const highest = values => values.reduce((most, value) => Math.max(most, value), 1);
  const first = Math.max(0, Math.floor(from / step)), last = Math.min(requests.length - 1, Math.ceil(to / step));
  const bottoms = [0, 1, 2].map(strip => top + strip * (STRIP_HEIGHT + STRIP_GAP) + STRIP_HEIGHT);
  const slowest = highest(redelivered.map(([, ms]) => ms));
  const titles = [
    ["requests/s", Math.round(perSecond(traffic, highest(requests))).toLocaleString("en")],
    ["backlog", highest(backlog).toLocaleString("en")],
    ["redelivery", words.duration(slowest * 10, 1000)],
  ];
  c.textAlign = "left"; c.textBaseline = "middle";
  titles.forEach(([title, most], strip) => {
    c.fillStyle = colours.quiet;
    c.fillText(title, 0, bottoms[strip] - STRIP_HEIGHT / 2 - 7, left - 8);
    c.fillText("≤ " + most, 0, bottoms[strip] - STRIP_HEIGHT / 2 + 8, left - 8);
    c.fillStyle = colours.line;
    c.fillRect(left, bottoms[strip], width - left, 1);
  });
  c.save();
  c.beginPath(); c.rect(left, top, width - left, TRAFFIC_HEIGHT); c.clip();
  const columns = (values, most, bottom, colour) => {
    c.fillStyle = colour;
    for (let i = first; i <= last; i++) {
      const height = values[i] / most * STRIP_HEIGHT;
      if (height) c.fillRect(x(i * step), bottom - height, Math.max(1, x((i + 1) * step) - x(i * step) - .5), height);
    }
  };
  columns(requests, highest(requests), bottoms[0], colours.request);
  columns(failures, highest(requests), bottoms[0], colours.killed);
  columns(backlog, highest(backlog), bottoms[1], colours.backlog);
  c.fillStyle = colours.redelivery;
  for (const [t, ms] of redelivered) {
    c.beginPath(); c.arc(x(t), bottoms[2] - 3 - ms / slowest * (STRIP_HEIGHT - 6), 2.5, 0, 2 * Math.PI); c.fill();
  }
  c.restore();
}

function describeTraffic(traffic, t) {
  const i = Math.floor(t / traffic.step);
  if (i < 0 || i >= traffic.requests.length) return "";
  const near = traffic.redelivered.filter(([at]) => Math.floor(at / traffic.step) === i).map(([, ms]) => ms);
  return `${words.duration(i * traffic.step)}\n${Math.round(perSecond(traffic, traffic.requests[i]))} requests/s, `
    + `${Math.round(perSecond(traffic, traffic.failures[i]))} of them failed\nbacklog ${traffic.backlog[i].toLocaleString("en")}`
    + (near.length ? `\n${near.length} interrupted tasks ran again, after up to ${words.duration(Math.max(...near) * 10)}` : "");
}
