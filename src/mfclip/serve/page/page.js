// The page: takes files in, keeps the list of cards, asks for a key.

import * as api from "./api.js";
import { Card } from "./card.js";
import { icon, make, verdictLabel } from "./dom.js";
import { VERDICTS, bytes, count, say, score, timeSpan } from "./words.js";

const AT_ONCE = 2; // files sent or judged at the same time; the others wait here
const TITLE = document.title;

const $ = (id) => document.getElementById(id);
const cards = [];
let made = 0;
let running = 0;
let dragDepth = 0;

/** Take files in and judge them. */
function takeIn(files) {
  const fresh = [...files].map((file) => new Card(file, {
    number: (made += 1), whole: $("whole").checked, onRemove: remove, onChange: update, tell,
  }));
  fresh.forEach((card) => {
    card.glance = make("li", {}, make("a", { href: `#file-${card.number}` }));
    glance(card);
  });
  if (!fresh.length) return;
  cards.push(...fresh);
  $("cards").append(...fresh.map((card) => card.element));
  $("overview").append(...fresh.map((card) => card.glance));
  refresh();
  startNext();
  $("results").scrollIntoView({ block: "start" });
  tell(say("page.taken", { files: count("file", fresh.length) }));
}

function startNext() {
  for (const card of cards.filter(({ summary }) => summary.state === "waiting")) {
    if (running >= AT_ONCE) return;
    running += 1;
    card.run().finally(() => {
      running -= 1;
      startNext();
    });
  }
}

function remove(card) {
  const at = cards.indexOf(card);
  cards.splice(at, 1);
  discard(card);
  refresh();
  tell(say("page.removed", { name: card.name }));
  ((cards[at] ?? cards[at - 1])?.element ?? $("files")).focus();
}

function discard(card) {
  card.dispose();
  card.element.remove();
  card.glance.remove();
}

function clear() {
  cards.splice(0).forEach(discard);
  refresh();
  tell(say("page.cleared"));
  $("files").focus();
}

/** Bring the list of files, the tally and the window's title up to date. */
function refresh() {
  document.body.classList.toggle("busy", cards.length > 0);
  $("results").hidden = cards.length === 0;
  $("overview-nav").hidden = cards.length < 2;
  const done = cards.filter(({ summary }) => summary.state === "done");
  const open = cards.filter(({ summary }) => ["waiting", "running"].includes(summary.state)).length;
  const failed = cards.length - done.length - open;
  const parts = VERDICTS.map((verdict) => [done.filter(({ summary }) => summary.verdict === verdict).length, say(`short.${verdict}`)]);
  const told = [...parts, [failed, say("page.failed_count")], [open, say("page.open_count")]].filter(([number]) => number);
  $("tally").textContent = `${told.map(([number, text]) => `${number} ${text}`).join(" · ")} ·`;
  document.title = open ? `(${done.length + failed}/${cards.length}) ${TITLE}` : TITLE;
}

function update(card) {
  glance(card);
  refresh();
}

/** Show a file small in the list; its link stays the same, so that it keeps the focus. */
function glance({ name, summary, glance: item }) {
  const state = summary.verdict
    ? verdictLabel(summary.verdict, `${say(`short.${summary.verdict}`)} ${score(summary.score)}`)
    : make("span", { class: "soft" }, summary.state === "failed" ? icon("error") : null, summary.text);
  const picture = summary.picture
    ? make("img", { src: summary.picture, alt: "" })
    : make("span", { class: "no-picture" });
  item.firstChild.replaceChildren(picture,
    make("span", { class: "glance" }, make("span", { class: "glance-name" }, name), state));
}

function hint(text) {
  $("drop-hint").textContent = text;
}

/** Tell a screen reader. */
function tell(text) {
  $("announce").textContent = text;
}

/** Ask for the API key; gives null when the person does not want to. */
function askForKey(wasWrong) {
  const dialog = $("key-dialog");
  $("key").value = "";
  $("key-title").textContent = say(wasWrong ? "key.wrong" : "key.title");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "ok" ? $("key").value : null);
    }, { once: true });
  });
}

function listen() {
  $("files").addEventListener("change", ({ target }) => {
    takeIn(target.files);
    target.value = "";
  });
  $("clear").addEventListener("click", clear);
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) event.preventDefault();
    takeIn(files);
  });
  addEventListener("dragenter", (event) => { event.preventDefault(); mark(1); });
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(-dragDepth);
    takeIn(event.dataTransfer.files);
    if (!event.dataTransfer.files.length) hint(say("page.no_file"));
  });
  addEventListener("pagehide", ({ persisted }) => { if (!persisted) cards.forEach((card) => card.dispose()); });
}

function mark(step) {
  dragDepth = Math.max(0, dragDepth + step);
  $("drop").classList.toggle("over", dragDepth > 0);
}

/** Say what is judged, by what and where. */
async function introduce() {
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  if (!here) $("promise-text").textContent = say("page.promise_there", { host: location.host });
  try {
    const { server } = await (await api.ask("v1/models")).json();
    $("keep-text").textContent = say("page.keep", { time: timeSpan(server.keep_seconds) });
    hint(say("page.paste_limits", { size: bytes(server.max_bytes), length: timeSpan(server.max_video_seconds) }));
    const about = await (await api.ask("v1/models/about")).text();
    $("about").replaceChildren(...new DOMParser().parseFromString(about, "text/html").body.children);
  } catch (error) {
    $("about").replaceChildren(make("p", { class: "failure" }, icon("error"), say("page.silent", { reason: error.message || say("error.lost") })));
  }
  $("about").removeAttribute("aria-busy");
}

api.setKeyPrompt(askForKey);
listen();
introduce();
