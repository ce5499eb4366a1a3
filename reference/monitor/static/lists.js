// Dead letters and tasks: pages of them, one in whole, and what an operator does with them.
import {NONE, age, ask, at, cell, clock, make, number, shard} from "./format.js";

const ERROR_CHARS = 160;
let letters = [], older = null, sought = null, place = "", moreFrom = null, opened = null;
let asked = 0, looked = 0, opening = 0;  // the last request of each kind: an answer to another one comes too late

// #overview, #letters, #tasks, or #tasks/NAME for what one consumer holds.
export function openTab() {
  const [name, consumer] = location.hash.slice(1).split("/");
  const tab = ["letters", "tasks"].includes(name) ? name : "overview";
  for (const other of ["overview", "letters", "tasks"]) at(other).hidden = other !== tab;
  for (const link of document.querySelectorAll("nav a"))
    link.hash === "#" + tab ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  if (tab === "letters") seek();
  if (tab === "tasks") {
    const held = at("place").querySelector("[data-held]");
    held?.remove();
    if (consumer) {
      const value = "processing?consumer=" + consumer;
      const option = make("option", {value, textContent: "held by " + decodeURIComponent(consumer)});
      option.dataset.held = "";
      at("place").append(option);
      at("place").value = value;
    } else if (held) at("place").selectedIndex = 1;
    look();
  }
}

// What was read before Redis went away is not shown after it.
export function forgetLists() {
  asked++;
  looked++;
  opening++;
  letters = [];
  older = null;
  say("");
  showLetters();
  at("no-letters").textContent = NONE;
  at("task-table").tBodies[0].replaceChildren();
  at("task-card").hidden = true;
  at("tasks-note").textContent = "";
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

// -- dead letters --------------------------------------------------------------------------------------------------

const wanted = () => ({text: at("seek-text").value.trim(), reason: at("seek-reason").value});
const chosen = () => [...document.querySelectorAll("#letter-table tbody input:checked")].map(box => box.value);
const say = text => { at("letters-note").textContent = text; };

// What is done with all letters found goes by `sought`, the filter of the search that is shown: the fields may have
// changed since. Until its answer is there, a search offers nothing to act on.
async function seek(filter = wanted(), before = null, note = null) {
  const turn = ++asked, query = new URLSearchParams(filter);
  sought = filter;
  if (before) query.set("before", before);
  else { letters = []; older = null; enable(); }
  try {
    const page = await ask("letters?" + query);
    if (turn !== asked) return;
    letters = [...letters, ...page.letters];
    older = page.next;
    const found = Object.values(filter).some(Boolean) ? `${number(letters.length)} found, ` : "";
    say(note ?? `${found}${number(page.total)} dead letters` + (older ? "; there are older ones" : ""));
    at("no-letters").textContent = found ? (older ? "None found yet." : "None found.") : "No task was given up.";
  } catch (error) {
    if (turn !== asked) return;
    letters = [];
    older = null;
    say(error.message);
    at("no-letters").textContent = NONE;
  }
  showLetters();
}

function showLetters() {
  const kept = new Set(chosen());
  at("letter-table").tBodies[0].replaceChildren(...letters.map(letter => {
    const box = make("input", {type: "checkbox", value: letter.letter, checked: kept.has(letter.letter)});
    box.setAttribute("aria-label", "Select " + (letter.id ?? letter.letter));
    const error = letter.error.length > ERROR_CHARS ? letter.error.slice(0, ERROR_CHARS) + "…" : letter.error;
    const row = make("tr", {className: "open", tabIndex: 0}, make("td", {}, box),
      cell(letter.id ?? NONE, "text id"), cell(letter.type ?? "unreadable", "text"), cell(letter.reason.replace("_", " "), "text"),
      cell(error, "text long"), cell(number(letter.attempts)), cell(age(Math.max(0, clock.now() - letter.dead_at))));
    box.addEventListener("click", event => event.stopPropagation());
    box.addEventListener("change", enable);
    row.addEventListener("click", () => showLetter(letter.letter));
    row.addEventListener("keydown", event => { if (event.key === "Enter" && event.target === row) showLetter(letter.letter); });
    return row;
  }));
  at("letter-table").hidden = letters.length === 0;
  at("no-letters").hidden = letters.length > 0;
  enable();
}

function enable() {
  const count = chosen().length;
  for (const button of document.querySelectorAll("[data-of=selected]")) button.disabled = count === 0;
  at("select-all").checked = count > 0 && count === letters.length;
  for (const button of document.querySelectorAll("[data-of=all]")) button.disabled = !letters.length && !older;
  at("more-letters").hidden = !older;
}

async function showLetter(id) {
  const turn = ++opening;
  try {
    const letter = await ask("letters/" + encodeURIComponent(id));
    if (turn !== opening) return;
    opened = letter;
  } catch (error) {
    if (turn === opening) seek(sought, null, error.message);
    return;
  }
  const dialog = at("letter");
  dialog.querySelector("h2").textContent = opened.type ?? "Unreadable entry";
  const facts = {
    task: opened.id ?? NONE, reason: opened.reason.replace("_", " "), attempts: number(opened.attempts),
    priority: opened.priority ?? NONE, "dead since": new Date(opened.dead_at).toLocaleString(),
    enqueued: opened.enqueued_at ? new Date(opened.enqueued_at).toLocaleString() : NONE, consumer: opened.consumer,
  };
  dialog.querySelector("dl").replaceChildren(...Object.entries(facts).map(([name, text]) =>
    make("div", {}, make("dt", {textContent: name}), make("dd", {textContent: text}))));
  const left = opened.payload_bytes - new TextEncoder().encode(opened.payload).length;
  dialog.querySelector(".error").textContent = opened.error || NONE;
  dialog.querySelector(".traceback").textContent = opened.traceback || NONE;
  dialog.querySelector(".payload").textContent = opened.payload + (left > 0 ? `\n… ${number(left)} bytes more` : "");
  if (!dialog.open) dialog.showModal();
}

// Whether the user is sure. Requeueing is undone by nobody either, but loses nothing.
function sure(question) {
  const dialog = at("confirm");
  dialog.querySelector("p").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise(resolve =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), {once: true}));
}

// The newest letter found is named, and the others are those before it: what came later was never shown, and stays.
const allFound = () => [
  {ids: letters.slice(0, 1).map(letter => letter.letter)}, {all: true, ...sought, before: letters[0]?.letter ?? older}];

async function act(verb, bodies, count) {
  const what = count === null ? "all dead letters that were found" : count === 1 ? "this task" : `${number(count)} tasks`;
  const question = verb === "purge" ? `Delete ${what} for good? No worker will run them.` : `Give ${what} new attempts?`;
  if ((verb === "purge" || count === null) && !await sure(question)) return;
  let done = 0, unreadable = 0;
  try {
    for (let body of bodies)
      while (body) {
        const answer = await ask("letters/" + verb, body);
        done += answer.done;
        unreadable += answer.unreadable;
        body = answer.next ? {...body, before: answer.next} : null;
        say(`${verb}: ${number(done)}…`);
      }
    const gone = count !== null && done + unreadable < count ? `, ${number(count - done - unreadable)} were there no more` : "";
    const kept = unreadable ? `, ${number(unreadable)} cannot be read and stay` : "";
    await seek(sought, null, `${verb === "purge" ? "purged" : "requeued"}: ${number(done)}${gone}${kept}`);
  } catch (error) {
    await seek(sought, null, `${error.message} Done before: ${number(done)}.`);
  }
}

for (const button of document.querySelectorAll("#letter-actions button"))
  button.addEventListener("click", () => button.dataset.of === "all"
    ? act(button.dataset.verb, allFound(), null)
    : act(button.dataset.verb, [{ids: chosen()}], chosen().length));
for (const button of document.querySelectorAll("#letter [data-verb]"))
  button.addEventListener("click", () => { at("letter").close(); act(button.dataset.verb, [{ids: [opened.letter]}], 1); });
at("seek").addEventListener("submit", event => { event.preventDefault(); seek(); });
at("seek-reason").addEventListener("change", () => seek());
at("more-letters").addEventListener("click", () => seek(sought, older));
at("select-all").addEventListener("change", event => {
  for (const box of document.querySelectorAll("#letter-table tbody input")) box.checked = event.target.checked;
  enable();
});

// -- tasks ---------------------------------------------------------------------------------------------------------

async function look(start = 0) {
  const turn = ++looked, rows = at("task-table").tBodies[0];
  if (!start) {  // more of a place is more of the one that is shown
    place = at("place").value + shard();
    at("more-tasks").hidden = true;
  }
  let page;
  try {
    page = await ask(`tasks/${place}&start=${start}`);
    if (turn !== looked) return;
  } catch (error) {
    if (turn !== looked) return;
    rows.replaceChildren();
    at("tasks-note").textContent = error.message;
    at("task-card").hidden = true;
    return;
  }
  const now = clock.now();
  const made = page.tasks.map(task => make("tr", {},
    cell(task.id ?? "unreadable", "id"), cell(task.type ?? NONE, "text"), cell(number(task.attempt)),
    // A scheduled task says when it is due in place of when it was enqueued.
    cell(task.enqueued_at && task.enqueued_at < now + 1000 ? age(Math.max(0, now - task.enqueued_at)) : NONE),
    cell(task.due_at ? (task.due_at > now ? "in " + age(task.due_at - now) : "now") : NONE),
    cell(task.preview, "text long id")));
  if (start) rows.append(...made);
  else rows.replaceChildren(...made);
  at("task-card").hidden = rows.children.length === 0;
  at("tasks-note").textContent = page.total ? `${number(rows.children.length)} of ${number(page.total)}` : "There is none.";
  moreFrom = page.next;
  at("more-tasks").hidden = moreFrom === null;
}

at("place").addEventListener("change", () => look());
at("shard").addEventListener("change", () => look());
at("look").addEventListener("click", () => look());
at("more-tasks").addEventListener("click", () => look(moreFrom));
