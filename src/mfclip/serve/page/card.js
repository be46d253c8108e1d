// One file on the page, from the moment it is chosen: waiting, sent, judged, answered or failed.

import * as api from "./api.js";
import { openArticle, summarise } from "./article.js";
import { button, copy, icon, make, save } from "./dom.js";
import { bytes, count, knows, percent, say, timeLeft } from "./words.js";

/** What may go better at another time. Everything else is the file's own: it would fail again. */
const PASSING = ["busy", "internal", "key_needed", "lost", "slow_upload", "stopping", "too_slow", "unsent"];

export class Card {
  /**
   * file: a File; number: makes ids unique; onRemove: the card asks to go;
   * onChange: its summary changed; tell: tells a screen reader.
   */
  constructor(file, { number, whole, onRemove, onChange, tell }) {
    Object.assign(this, { file, number, whole, onChange, tell });
    this.name = file.name || say("page.pasted");
    this.summary = { state: "waiting", text: say("card.waiting") };
    this.abort = new AbortController();
    this.actions = make("div", { class: "actions" });
    this.body = make("div", { class: "card-body" });
    this.remove = button(say("card.remove"), () => onRemove(this), { class: "button quiet", "aria-label": say("card.remove_named", { name: this.name }) });
    this.element = make("section", { class: "card", id: `file-${number}`, tabindex: "-1", "aria-labelledby": `name-${number}` },
      make("header", { class: "card-head" },
        make("div", { class: "card-name" },
          make("h3", { id: `name-${number}` }, this.name),
          (this.facts = make("p", { class: "soft" }, bytes(file.size)))),
        this.actions),
      this.body);
    this.actions.replaceChildren(this.remove);
    this.body.replaceChildren(make("p", { class: "soft waiting" }, say("card.waiting")));
  }

  /** Send the file, follow the job and show the answer; errors are shown, not thrown. */
  async run() {
    try {
      await this.#judge();
      await this.#answer();
    } catch (error) {
      if (error.name !== "AbortError") this.#fail(error);
      else this.#cancelled();
    }
  }

  /** Stop what is under way and have the service forget the file. */
  dispose() {
    this.abort.abort();
    this.#forget();
  }

  #forget() {
    if (this.job) api.forget(this.job);
    this.job = null;
  }

  async #judge() {
    const { signal } = this.abort;
    this.#progress(say("card.sending"), 0);
    this.job = await api.send(this.file, { async: true, whole: this.whole }, {
      signal,
      onSent: (share) => (share < 1 ? this.#progress(say("card.sending"), share) : this.#progress(say("card.judging"), null)),
      onWait: (seconds) => this.#progress(say("card.busy", { seconds: count("second", seconds) }), null),
    });
    this.#follow(this.job);
    this.job = await api.follow(this.job, { signal, onChange: (job) => this.#follow(job) });
  }

  #follow({ status, kind, progress: { done, total } = {} }) {
    if (status === "queued") return this.#progress(say("card.queued"), null);
    if (kind !== "video" || !total) return this.#progress(say("card.judging"), null);
    this.began ??= { at: performance.now(), done };
    const each = (performance.now() - this.began.at) / 1000 / Math.max(1, done - this.began.done);
    const left = done > this.began.done + 1 && done < total ? timeLeft(each * (total - done)) : "";
    return this.#progress(say("card.judging"), done / total, [say("card.frame", { done, total }), left].filter(Boolean).join(", "));
  }

  /** Show how far it is; a share of null means that nobody knows. */
  #progress(text, share, detail = "") {
    if (!this.bar?.isConnected) {
      this.bar = make("progress", { max: "1", "aria-labelledby": `step-${this.number}` });
      this.step = make("p", { class: "step", id: `step-${this.number}` });
      const stop = button(say("card.cancel"), () => this.abort.abort(), { "aria-label": say("card.cancel_named", { name: this.name }) });
      this.body.replaceChildren(make("div", { class: "progress" }, this.step, this.bar, stop));
      this.actions.replaceChildren();
    }
    const told = share === null ? text : `${text} ${percent(share)}`;
    this.step.replaceChildren(make("b", {}, told), detail ? ` ${detail}` : "");
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    this.#summarise({ state: "running", text: told });
  }

  async #answer() {
    const { result } = this.job;
    const sum = { state: "done", ...summarise(result) };
    const article = await openArticle(this.job, this.name, this.number, (picture) => { sum.picture = picture; });
    const head = article.querySelector(".judged-head");
    this.facts.textContent = head.querySelector(".facts").textContent;
    head.remove(); // the card's own head names the file
    this.body.replaceChildren(article);
    this.actions.replaceChildren(...this.#offers(result));
    this.#summarise(sum);
    this.tell(`${this.name}: ${sum.text}`);
  }

  #offers(result) {
    const report = ({ currentTarget: it }) => this.#try(it, "saved", async () => {
      const response = await api.ask(this.job.links.report);
      save(await response.blob(), `${this.name}-report.html`);
    });
    const copyIt = ({ currentTarget: it }) => this.#try(it, "copied", async () => {
      if (!await copy(JSON.stringify(result, null, 1))) throw new api.Problem(say("card.no_copy"));
    });
    return [button(say("card.report"), report), button(say("card.json"), copyIt), this.remove];
  }

  /** Do what a button asks, and say beside it what came of it. */
  async #try(element, done, action) {
    this.told?.remove();
    this.told = make("span", { class: "told" });
    element.after(this.told);
    try {
      await action();
      this.told.textContent = say(`card.${done}`);
      setTimeout((told) => told.remove(), 4000, this.told);
    } catch (error) {
      this.told.classList.add("bad");
      this.told.textContent = error.code === "not_found" ? say("card.forgotten") : explain(error);
    }
    this.tell(`${this.name}: ${this.told.textContent}`);
  }

  #fail(error) {
    const again = button(say("card.again"), () => this.#restart());
    const whole = button(say("card.judge_whole"), () => { this.whole = true; this.#restart(); });
    const isPicture = this.job?.kind !== "video";
    const offers = error.code === "no_face" && isPicture ? [whole] : PASSING.includes(error.code) ? [again] : [];
    const text = explain(error);
    // what the service says in detail, for programs and people alike, is in English
    const detail = error.message && !["no_face", "lost", "unsent"].includes(error.code) ? error.message : "";
    this.body.replaceChildren(make("div", { class: "failure" }, icon("error"), make("div", {},
      make("p", {}, make("b", {}, say("card.failed")), ` · ${text}`),
      detail ? make("p", { class: "soft", lang: "en" }, detail) : null,
      offers.length ? make("div", { class: "row" }, offers) : null)));
    this.actions.replaceChildren(this.remove);
    this.#summarise({ state: "failed", text: say("card.failed") });
    this.tell(`${this.name}: ${say("card.failed")}. ${text}`);
  }

  #cancelled() {
    this.dispose();
    this.body.replaceChildren(make("div", { class: "progress" },
      make("p", { class: "step" }, say("card.cancelled_text")), button(say("card.after_all"), () => this.#restart())));
    this.actions.replaceChildren(this.remove);
    this.#summarise({ state: "failed", text: say("card.cancelled") });
  }

  #restart() {
    this.#forget();
    Object.assign(this, { abort: new AbortController(), began: null });
    this.element.focus();
    this.run();
  }

  #summarise(summary) {
    this.summary = summary;
    this.onChange(this);
  }
}

/** What went wrong, by its code; the service's own sentences are for programs. */
function explain({ code, message }) {
  if (!code) return message;
  return say(knows(`error.${code}`) ? `error.${code}` : "error.other");
}
