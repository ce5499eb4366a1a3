// How numbers, ages and rows are written. What was not read is a dash, never a zero.
export const NONE = "–";
export const at = id => document.getElementById(id);
export const number = count => count === null || count === undefined ? NONE : count.toLocaleString("en");

// Redis's clock, as the last reading told it: that of the machine that shows the page may be another.
export const clock = {ahead: 0, now: () => Date.now() + clock.ahead};

export function age(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 10000) return (ms / 1000).toFixed(1) + " s";
  const s = Math.floor(ms / 1000);
  if (s < 120) return s + " s";
  if (s < 7200) return Math.floor(s / 60) + " min";
  return s < 172800 ? Math.floor(s / 3600) + " h" : Math.floor(s / 86400) + " d";
}

export function short(ms) {
  if (ms === null) return NONE;
  if (ms < 1000) return (ms < 10 ? ms.toFixed(1) : Math.round(ms)) + " ms";
  return age(ms);
}

export const rate = value =>
  value === null ? NONE : value.toLocaleString("en", {maximumFractionDigits: value < 100 ? 1 : 0});

export const make = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// All that comes from tasks and workers is set as text.
export const cell = (text, className = "") => make("td", {textContent: text, className});

// With several shards, which of them is asked for what only one can show.
export const shard = () => at("shard").value ? "&shard=" + encodeURIComponent(at("shard").value) : "";

// A GET, or with `body` a POST of JSON, which no other site's page can send.
export async function ask(path, body) {
  const options = {cache: "no-store", signal: AbortSignal.timeout(10000)};
  if (body) Object.assign(options, {method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
  let response, answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    throw new Error("The monitor does not answer.");
  }
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}
