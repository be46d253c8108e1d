// One file on the page, from the moment it is chosen: waiting, sent, judged, answered or failed.

import * as api from "./api.js";
import { button, copy, icon, make, save } from "./dom.js";
import { pictureResult, summary as pictureSummary } from "./picture.js";
import { summary as videoSummary, videoResult } from "./video.js";
import * as words from "./words.js";

/** Errors of the file itself: the same file gives the same error again. */
const FINAL = ["not_media", "too_large", "unreadable", "bad_field"];

export class Card {
  /**
   * file: a File; number: makes ids unique; onRemove: the card asks to go;
   * onChange: its summary changed; say: tells a screen reader.
   */
  constructor(file, { number, whole, server, onRemove, onChange, say }) {
    Object.assign(this, { file, number, whole, server, onChange, say });
    this.name = file.name || "pasted picture";
    this.summary = { state: "waiting", text: "Waiting" };
    this.abort = new AbortController();
    this.actions = make("div", { class: "actions" });
    this.body = make("div", { class: "card-body" });
    this.remove = button("Remove", () => onRemove(this), { class: "button quiet", "aria-label": `Remove ${this.name}` });
    this.element = make("article", { class: "card", id: `file-${number}`, tabindex: "-1", "aria-labelledby": `name-${number}` },
      make("header", { class: "card-head" },
        make("div", { class: "card-name" },
          make("h3", { id: `name-${number}` }, this.name),
          (this.facts = make("p", { class: "soft" }, words.bytes(file.size)))),
        this.actions),
      this.body);
    this.#wait();
  }

  /** Send the file, follow the job and show the answer; errors are shown, not thrown. */
  async run() {
    try {
      const job = await this.#judge();
      this.#answer(job);
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
    this.#progress("Sending", 0);
    const fields = { async: true, evidence: true, whole: this.whole };
    this.job = await api.send(this.file, fields, {
      signal,
      onSent: (share) => (share < 1 ? this.#progress("Sending", share) : this.#progress("Judging", null)),
      onWait: (seconds) => this.#progress(`The service is busy; trying again in ${words.count(seconds, "second")}`, null),
    });
    this.#follow(this.job);
    this.job = await api.follow(this.job, { signal, onChange: (job) => this.#follow(job) });
    return this.job;
  }

  #follow({ status, kind, progress: { done, total } = {} }) {
    if (status === "queued") return this.#progress("Waiting for other files to be judged", null);
    if (kind !== "video" || !total) return this.#progress("Judging", null);
    this.began ??= { at: performance.now(), done };
    const each = (performance.now() - this.began.at) / 1000 / Math.max(1, done - this.began.done);
    const left = done > this.began.done + 1 && done < total ? words.timeLeft(each * (total - done)) : "";
    return this.#progress("Judging", done / total, [`frame ${done} of ${total}`, left].filter(Boolean).join(", "));
  }

  #wait() {
    this.actions.replaceChildren(this.remove);
    this.body.replaceChildren(make("p", { class: "soft waiting" }, "Waiting for its turn"));
  }

  /** Show how far it is; a share of null means that nobody knows. */
  #progress(text, share, detail = "") {
    if (!this.bar?.isConnected) {
      this.bar = make("progress", { max: "1", "aria-labelledby": `step-${this.number}` });
      this.step = make("p", { class: "step", id: `step-${this.number}` });
      const stop = button("Cancel", () => this.abort.abort(), { "aria-label": `Cancel ${this.name}` });
      this.body.replaceChildren(make("div", { class: "progress" }, this.step, this.bar, stop));
      this.actions.replaceChildren();
    }
    const percent = share === null ? "" : ` ${words.percent(share)}`;
    this.step.replaceChildren(make("b", {}, text + percent), detail ? ` ${detail}` : "");
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    this.#summarise({ state: "running", text: text + percent });
  }

  #answer({ result }) {
    const isVideo = result.videos?.length > 0;
    if (!isVideo && !result.predictions.length) {
      throw new api.Problem(result.errors[0]?.error ?? "nothing in it could be judged");
    }
    this.#describe(isVideo ? result.videos[0] : result.predictions[0]);
    const shown = isVideo ? videoResult(result, this.job, this.name, (picture) => this.#summarise({ ...this.summary, picture })) : pictureResult(result, this.name);
    this.body.replaceChildren(shown, origin(result, isVideo));
    this.actions.replaceChildren(...this.#offers(result));
    const sum = isVideo ? videoSummary(result) : pictureSummary(result);
    this.#summarise({ state: "done", picture: result.picture, ...sum });
    this.say(`${this.name}: ${sum.text}. Score ${words.score(sum.score)}`);
  }

  #describe({ width, height, seconds }) {
    const facts = [width ? `${width} × ${height} pixels` : "", seconds ? words.clock(seconds) : "", words.bytes(this.file.size)];
    this.facts.textContent = facts.filter(Boolean).join(" · ");
  }

  #offers(result) {
    const report = ({ currentTarget: it }) => this.#try(it, "saved", async () => {
      const response = await api.ask(this.job.links.report);
      save(await response.blob(), `${this.name}-report.html`);
    });
    const copyIt = ({ currentTarget: it }) => this.#try(it, "copied", () => copy(JSON.stringify(bare(result), null, 1)));
    return [
      button("Save report", report),
      button("Copy JSON", copyIt),
      this.remove,
    ];
  }

  /** Do what a button asks, and say beside it what came of it. */
  async #try(element, done, action) {
    this.told?.remove();
    this.told = make("span", { class: "told" });
    element.after(this.told);
    try {
      await action();
      this.told.textContent = done;
      this.say(`${this.name}: ${done}`);
      setTimeout((told) => told.remove(), 4000, this.told);
    } catch (error) {
      const gone = error.code === "not_found" && "The service has forgotten this result; judge the file again.";
      this.told.classList.add("bad");
      this.told.textContent = gone || error.message;
      this.say(`${this.name}: ${this.told.textContent}`);
    }
  }

  #fail(error) {
    const again = button("Try again", () => this.#restart());
    const whole = button("Judge the whole picture as one face", () => { this.whole = true; this.#restart(); });
    const noFace = error.code === "no_face" && this.job?.kind !== "video";
    const offers = noFace ? [whole] : FINAL.includes(error.code) ? [] : [again];
    const text = noFace ? "No face was found in this picture." : words.sentence(error.message);
    this.body.replaceChildren(make("div", { class: "failure" }, icon("error"),
      make("div", {}, make("p", {}, make("b", {}, "Could not be judged. "), text), make("div", { class: "row" }, offers))));
    this.actions.replaceChildren(this.remove);
    this.#summarise({ state: "failed", text: "Could not be judged" });
    this.say(`${this.name} could not be judged. ${text}`);
  }

  #cancelled() {
    this.dispose();
    this.body.replaceChildren(make("div", { class: "progress" },
      make("p", { class: "step" }, "Cancelled; the service has deleted the file."), button("Judge it after all", () => this.#restart())));
    this.actions.replaceChildren(this.remove);
    this.#summarise({ state: "failed", text: "Cancelled" });
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

/** The answer as `mfclip predict --json` writes it, without the pictures. */
function bare({ picture, ...answer }) {
  return { ...answer, predictions: answer.predictions.map(({ evidence, ...face }) => face) };
}

/** What a person files: which bytes were judged, and by what. */
function origin({ model, predictions, videos }, isVideo) {
  const { sha256 } = (isVideo ? videos : predictions)[0];
  const rows = [
    ["SHA-256 of the file", sha256],
    ["Judged", new Date().toLocaleString()],
    ["Faces", model.faces === "whole" ? "whole picture" : "found in the picture"],
    ["Weights", [model.weights, model.engine, model.precision].filter(Boolean).join(", ")],
    ["SHA-256 of the weights", model.weights_sha256],
  ].filter(([, value]) => value);
  return make("details", { class: "origin" }, make("summary", {}, "File and model"),
    make("dl", {}, rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}
