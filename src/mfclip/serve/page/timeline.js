// The score of every face over the time of a video, as an SVG that is a slider over its frames.

import { draw, make } from "./dom.js";
import * as words from "./words.js";

const HEIGHT = 220;
const EDGE = { left: 34, right: 74, top: 12, bottom: 26 };
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600]; // seconds between ticks
const CLASSES = 6; // colours and dashes of tracks in page.css

/** The class that gives the line of a face its colour and dashes. */
export const trackClass = (i) => `track-${i % CLASSES}`;

/**
 * tracks: [{name, points: [{time, index, score, verdict}]}]; duration in seconds;
 * times: of all judged frames with a face, rising; onChoose is told the place in it that was
 * chosen, and what is there in words.
 */
export class Timeline {
  constructor({ tracks, times, duration, bands, onChoose }) {
    Object.assign(this, { tracks, times, duration, bands, onChoose, at: 0 });
    this.element = make("div", {
      class: "timeline", role: "slider", tabindex: "0", "aria-label": "Judged frames of the video",
      "aria-valuemin": "0", "aria-valuemax": String(times.length - 1),
      onkeydown: (event) => this.#key(event), onpointerdown: (event) => this.#point(event),
      onpointermove: (event) => { if (event.buttons) this.#point(event); },
    });
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  /** Move to a judged frame, by its place in the list of times. */
  choose(at) {
    this.at = Math.max(0, Math.min(this.times.length - 1, at));
    this.element.setAttribute("aria-valuenow", String(this.at));
    const told = this.#describe();
    this.element.setAttribute("aria-valuetext", told);
    this.#draw();
    this.onChoose(this.at, told);
  }

  #describe() {
    const time = this.times[this.at];
    const faces = this.#here().map(([name, { score, verdict }]) => `${name}: ${words.short(verdict)}, score ${words.score(score)}`);
    return `${words.clock(time)} · ${faces.join(" · ")}`;
  }

  /** Pairs of track name and point at the chosen time. */
  #here() {
    const time = this.times[this.at];
    return this.tracks.flatMap(({ name, points }) => points.filter((point) => point.time === time).map((point) => [name, point]));
  }

  #key(event) {
    const last = this.times.length - 1;
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.choose(this.at + moves[event.key]);
  }

  #point(event) {
    const { left } = this.element.getBoundingClientRect();
    const time = ((event.clientX - left - EDGE.left) / this.#width()) * this.duration;
    const nearest = this.times.reduce((best, value, i) => (Math.abs(value - time) < Math.abs(this.times[best] - time) ? i : best), 0);
    if (nearest !== this.at || event.type === "pointerdown") this.choose(nearest);
  }

  #width() { return Math.max(50, this.element.clientWidth - EDGE.left - EDGE.right); }
  #x(time) { return EDGE.left + (time / (this.duration || 1)) * this.#width(); }
  #y(score) { return EDGE.top + (1 - Math.min(1, score)) * (HEIGHT - EDGE.top - EDGE.bottom); }

  #draw() {
    if (!this.element.clientWidth) return;
    const size = { width: this.element.clientWidth, height: HEIGHT };
    this.element.replaceChildren(draw("svg", { ...size, viewBox: `0 0 ${size.width} ${HEIGHT}`, "aria-hidden": "true" },
      this.#bandRects(), this.#grid(), this.#lines(), this.#playhead()));
  }

  #bandRects() {
    const { real_below: low, fake_from: high } = this.bands;
    const spans = [["real", 0, low], ["uncertain", low, Math.min(1, high)], ["fake", Math.min(1, high), 1]];
    const x = this.#x(0);
    return spans.filter(([, from, to]) => to > from).flatMap(([verdict, from, to]) => [
      draw("rect", { class: `zone ${verdict}`, x, width: this.#width(), y: this.#y(to), height: this.#y(from) - this.#y(to) }),
      to - from > 0.09 ? draw("text", { class: `zone-name ${verdict}`, x: x + this.#width() + 7, y: (this.#y(from) + this.#y(to)) / 2 + 4 }, words.short(verdict)) : null,
    ]).filter(Boolean);
  }

  #grid() {
    const scores = [0, 0.5, 1].map((value) => draw("text", { class: "tick end", x: EDGE.left - 6, y: this.#y(value) + 4 }, String(value)));
    const step = STEPS.find((value) => (this.duration / value) * 60 < this.#width()) ?? STEPS.at(-1);
    const times = Array.from({ length: Math.floor(this.duration / step) + 1 }, (_, i) => i * step).map((time) =>
      draw("text", { class: "tick middle", x: this.#x(time), y: HEIGHT - 7 }, words.clock(time, step < 1 ? 1 : 0)));
    return [...scores, ...times];
  }

  #lines() {
    return this.tracks.flatMap(({ points }, i) => {
      const path = this.#runs(points).map((run) => run.map(({ time, score }, n) =>
        `${n ? "L" : "M"}${this.#x(time).toFixed(1)} ${this.#y(score).toFixed(1)}`).join("")).join("");
      const dots = points.map(({ time, score }) => draw("circle", { class: `dot ${trackClass(i)}`, cx: this.#x(time), cy: this.#y(score), r: 2.5 }));
      return [draw("path", { class: `line ${trackClass(i)}`, d: path }), ...dots];
    });
  }

  /** Cut a track where its face is missing from judged frames, so that no line hides the gap. */
  #runs(points) {
    const place = new Map(this.times.map((time, i) => [time, i]));
    return points.reduce((runs, point, n) => {
      const follows = n > 0 && place.get(point.time) - place.get(points[n - 1].time) === 1;
      if (follows) runs.at(-1).push(point);
      else runs.push([point]);
      return runs;
    }, []);
  }

  #playhead() {
    const x = this.#x(this.times[this.at]);
    return [draw("line", { class: "playhead", x1: x, x2: x, y1: EDGE.top - 6, y2: HEIGHT - EDGE.bottom }),
      ...this.#here().map(([, { score, verdict }]) => draw("circle", { class: `here ${verdict}`, cx: x, cy: this.#y(score), r: 6 }))];
  }
}
