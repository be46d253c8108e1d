// What was found in a file: the article of its report, with what paper cannot do. One face is shown at
// a time, the heat map fades, and the frames of a video come as they are looked at. All words and
// drawings are the report's; see src/mfclip/report/article.html.

import * as api from "./api.js";
import { button, draw, make } from "./dom.js";
import { clock, count, say, score } from "./words.js";

const SOLID = 100; // strength of the heat map at first, percent

/**
 * Fetch the article of a finished job.
 * number: makes its anchors unique on the page; onPicture is told the address of a small picture.
 */
export async function openArticle(job, name, number, onPicture) {
  const report = await (await api.ask(job.links.report)).text();
  // the article alone: Chromium applies this page's policy to a parsed document, too, and would
  // complain of the style in the report's head
  const own = report.slice(report.indexOf("<article"), report.lastIndexOf("</article>"));
  const page = new DOMParser().parseFromString(own, "text/html");
  const article = document.importNode(page.querySelector("article.judged"), true);
  rename(article, `card-${number}-`);
  onPicture((article.querySelector(".seen img") ?? article.querySelector("img"))?.src);
  chooseFaces(article, job.result.predictions);
  article.querySelectorAll("figure.heat").forEach(fade);
  const [video] = job.result.videos;
  if (video) walk(article, video, job, name);
  return article;
}

/** Anchors are unique within one report; here several lie on one page. */
function rename(article, prefix) {
  article.id = prefix + article.id;
  for (const element of article.querySelectorAll("[id]")) element.id = prefix + element.id;
  for (const link of article.querySelectorAll("a[href^='#']")) {
    link.setAttribute("href", `#${prefix}${link.getAttribute("href").slice(1)}`);
  }
}

/** Show one face at a time, the most suspect one first; links in the picture and beside it choose. */
function chooseFaces(article, predictions) {
  const sections = [...article.querySelectorAll("section.face")];
  if (sections.length < 2) return;
  const links = [...article.querySelectorAll(".overall a")];
  const tabs = article.querySelector(".side").firstElementChild;
  const findings = new Map(sections.map((section) => [section.id, [section.querySelector("h4"), section.querySelector(".finding")]]));
  const choose = (id) => {
    sections.forEach((section) => { section.hidden = section.id !== id; });
    tabs.parentElement.replaceChildren(tabs, ...findings.get(id)); // there is room beside the picture
    links.forEach((link) => link.setAttribute("aria-current", String(link.getAttribute("href") === `#${id}`)));
  };
  for (const link of links) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(link.getAttribute("href").slice(1));
    });
  }
  article.querySelector(".whole figcaption").append(` ${say("card.choose_face")}`);
  choose(sections[mostSuspect(predictions)].id);
}

export const mostSuspect = (faces) => faces.reduce((best, face, i) => (face.score > faces[best].score ? i : best), 0);

/** Lay the heat map over the face that it was drawn on, with a slider for how strong. */
function fade(figure) {
  const face = figure.parentElement.querySelector("figure.seen img");
  const over = figure.querySelector("img");
  const input = make("input", { type: "range", min: "0", max: "100", step: "5", value: SOLID, "aria-label": say("card.heat_strength") });
  const shown = make("output", { "aria-hidden": "true" });
  const update = () => {
    over.style.opacity = String(input.value / 100);
    shown.textContent = `${input.value}%`;
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", update);
  update();
  figure.querySelector(".layers").prepend(make("img", { class: "below", src: face.src, alt: "" }));
  figure.append(make("div", { class: "slider" }, make("span", { "aria-hidden": "true" }, say("card.heat")), input, shown));
}

/** Let the plot of a video be a slider over its judged frames, each shown with its faces. */
function walk(article, video, job, name) {
  const frames = video.tracks.flatMap(({ id, frames: seen }) => seen.map((frame) => ({ ...frame, id })));
  const places = [...new Map(frames.map((frame) => [frame.index, frame.seconds]))].sort(([a], [b]) => a - b);
  const view = new FrameView(article, job, name, video);
  const slider = article.querySelector(".timeline");
  const plot = slider.querySelector(".plot");
  const playhead = draw("line", { class: "playhead", y1: "-3%", y2: "100%" });
  plot.append(playhead);
  let at = 0;

  const choose = (wanted) => {
    at = Math.max(0, Math.min(places.length - 1, wanted));
    const [index, seconds] = places[at];
    const here = frames.filter((frame) => frame.index === index);
    const faces = here.map((face) => `${say("film.face", { number: face.id })}: ${say("score.told", { score: score(face.score) })}`);
    const told = [clock(seconds), ...faces].join(" · ");
    slider.setAttribute("aria-valuenow", String(at));
    slider.setAttribute("aria-valuetext", told);
    for (const end of ["x1", "x2"]) playhead.setAttribute(end, `${(100 * seconds) / (video.seconds || 1)}%`);
    view.show(index, told, here);
  };
  const point = ({ clientX }) => {
    const { left, width } = slider.getBoundingClientRect();
    const time = ((clientX - left) / width) * video.seconds;
    choose(places.reduce((best, [, seconds], i) => (Math.abs(seconds - time) < Math.abs(places[best][1] - time) ? i : best), 0));
  };
  const keys = (event) => {
    const last = places.length - 1;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(at + moves[event.key]);
  };

  const roles = { role: "slider", tabindex: "0", "aria-label": say("card.frames_slider"), "aria-valuemin": "0", "aria-valuemax": String(places.length - 1) };
  for (const [attribute, value] of Object.entries(roles)) slider.setAttribute(attribute, value);
  slider.firstElementChild.setAttribute("aria-hidden", "true"); // the slider says it frame by frame
  slider.addEventListener("keydown", keys);
  slider.addEventListener("pointerdown", point);
  slider.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  slider.after(make("p", { class: "soft" }, say("card.frames_hint")));
  const goTo = (index) => choose(places.findIndex(([one]) => one === index));
  for (const item of article.querySelectorAll(".moments li")) {
    const caption = item.querySelector("figcaption");
    caption.replaceChildren(button(caption.textContent.trim(), () => goTo(Number(item.dataset.index)), { class: "button moment" }));
  }
  goTo(video.moments[0].index);
}

/** The frame that is looked at. Frames seen once are kept until the card goes. */
class FrameView {
  constructor(article, job, name, { width, height }) {
    Object.assign(this, { job, name, width, height, seen: new Map() });
    this.figure = article.querySelector(".overall > figure") ?? make("figure", { class: "view picture whole" });
    this.image = make("img", { alt: "", width, height });
    this.layers = make("span", { class: "layers" }, this.image);
    this.caption = make("figcaption", {});
    this.figure.replaceChildren(this.layers, this.caption);
    this.figure.classList.add("frame-view");
    article.querySelector(".overall").prepend(this.figure);
  }

  async show(index, told, faces) {
    this.wanted = index;
    this.caption.textContent = told;
    this.figure.classList.add("loading");
    try {
      if (!this.seen.has(index)) this.seen.set(index, this.#load(index));
      const address = await this.seen.get(index);
      if (this.wanted !== index) return;
      this.image.src = address;
      this.image.alt = say("card.frame_alt", { name: this.name, told });
      this.layers.replaceChildren(this.image, this.#mark(faces));
    } catch (error) {
      this.seen.delete(index);
      if (this.wanted !== index) return;
      this.caption.textContent = `${told} · ${error.code === "not_found" ? say("card.forgotten") : error.message}`;
    }
    this.figure.classList.remove("loading");
  }

  async #load(index) {
    const response = await api.ask(`${this.job.links.self}/frames/${index}`);
    return URL.createObjectURL(await response.blob());
  }

  /** Frame the faces, as the report does. */
  #mark(faces) {
    const unit = Math.max(this.width, this.height) / 160;
    const marks = faces.filter(({ box }) => box).flatMap(({ id, box: { left, top, right, bottom } }) => {
      const sides = { x: left, y: top, width: right - left, height: bottom - top, fill: "none" };
      return [
        draw("rect", { ...sides, stroke: "#000", "stroke-width": 2.2 * unit }),
        draw("rect", { ...sides, class: "frame", stroke: "#ffd400", "stroke-width": unit }),
        draw("rect", { x: left, y: top, width: 9 * unit, height: 9 * unit, fill: "#ffd400" }),
        draw("text", { x: left + 4.5 * unit, y: top + 7 * unit, "font-size": 7.5 * unit, "font-weight": 700, "text-anchor": "middle", fill: "#000" }, String(id)),
      ];
    });
    return draw("svg", { class: "marks", viewBox: `0 0 ${this.width} ${this.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, marks);
  }
}

/** Verdict, score and words of what stands for a file: its most suspect face, or its video. */
export function summarise({ predictions, videos }) {
  const { verdict, score: value } = videos[0] ?? predictions[mostSuspect(predictions)];
  const faces = predictions.length > 1 ? `${count("face", predictions.length)}. ` : "";
  return { verdict, score: value, text: `${faces}${say(`verdict.${verdict}`)}, ${say("score.told", { score: score(value) })}` };
}
