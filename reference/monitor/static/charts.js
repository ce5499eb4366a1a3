// Small line charts. A gap in a line is a time in which nothing was read.
import {NONE, at, make} from "./format.js";

const WIDTH = 480, HEIGHT = 130, LEFT = 44, BOTTOM = 18, TOP = 6;
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Durations in ms of which the half, too, is one that people name.
const TIMES = [10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 10000, 20000, 60000, 120000, 240000, 600000, 1200000,
  3600000, 7200000, 14400000, 43200000, 86400000];

// A duration, or 1, 2 or 5 times a power of ten, not below `value`.
function ceiling(value, isTime) {
  const time = isTime && TIMES.find(step => step >= value * 0.9999);
  if (time) return time;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= value * 0.9999);
}

// `lines`: [{name, points: [[ms, value or null], ...]}, ...]; `write` makes a text of a value.
export function draw(id, lines, from, to, write, least, isTime = false) {
  const figure = at(id);
  const values = lines.flatMap(line => line.points.map(point => point[1])).filter(value => value !== null);
  const top = ceiling(Math.max(least, ...values), isTime);
  const y = value => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const svg = shape("svg", {role: "img"});
  svg.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
  const box = figure.clientWidth ? figure.querySelector("svg")?.clientWidth || figure.clientWidth - 30 : WIDTH;
  svg.setAttribute("viewBox", `0 0 ${box} ${HEIGHT}`);
  const px = ms => LEFT + (box - LEFT) * (ms - from) / (to - from);
  for (const share of [0, 0.5, 1]) {
    svg.append(shape("line", {x1: LEFT, x2: box, y1: y(top * share), y2: y(top * share), class: "grid"}));
    svg.append(shape("text", {x: LEFT - 6, y: y(top * share) + 4, "text-anchor": "end"}, write(top * share)));
  }
  for (const share of [0, 0.5, 1]) {
    const ms = from + (to - from) * share, anchor = ["start", "middle", "end"][share * 2];
    const minutes = Math.round((to - ms) / 60000);
    svg.append(shape("text", {x: px(ms), y: HEIGHT - 3, "text-anchor": anchor}, minutes ? `−${minutes} min` : "now"));
  }
  lines.forEach((line, index) => {
    let path = "", pen = "M";
    for (const [ms, value] of line.points) {
      if (value === null) { pen = "M"; continue; }
      path += `${pen}${px(ms).toFixed(1)} ${y(value).toFixed(1)}`;
      if (pen === "M") path += "h0.01";  // a point by itself is a dot
      pen = "L";
    }
    svg.append(shape("path", {d: path, class: `line-${index}`}));
  });
  const legend = make("div", {className: "legend"});
  const tell = ms => legend.replaceChildren(...lines.map((line, index) =>
    make("span", {className: `key-${index}`}, `${line.name} `, make("b", {textContent: valueAt(line.points, ms, write)}))));
  tell(null);
  const cursor = shape("line", {y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor", visibility: "hidden"});
  svg.append(cursor);
  svg.addEventListener("pointermove", event => {
    const left = event.clientX - svg.getBoundingClientRect().left;
    const ms = from + (to - from) * (left - LEFT) / (box - LEFT);
    if (ms < from) return;
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, left);
    cursor.setAttribute("visibility", "visible");
    tell(ms);
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); tell(null); });
  figure.replaceChildren(figure.querySelector("figcaption"), legend, svg);
}

// The value nearest to a moment; the last one where there is none.
function valueAt(points, ms, write) {
  const known = points.filter(point => point[1] !== null);
  if (!known.length) return NONE;
  if (ms === null) return write(known.at(-1)[1]);
  return write(known.reduce((best, point) => Math.abs(point[0] - ms) < Math.abs(best[0] - ms) ? point : best)[1]);
}
