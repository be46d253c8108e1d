// The result for a video: verdict, the frame that is looked at, timeline, suspect moments, faces.

import * as api from "./api.js";
import { button, draw, make, percents, place } from "./dom.js";
import { finding, kinds } from "./face.js";
import { fit, tag } from "./picture.js";
import { verdictLabel } from "./scale.js";
import { Timeline, trackClass } from "./timeline.js";
import * as words from "./words.js";

/** Verdict and score of the face that stands for the video. */
export function summary({ videos: [video] }) {
  const faces = video.tracks.length > 1 ? ` (most suspect of ${video.tracks.length} faces)` : "";
  return { verdict: video.verdict, score: video.score, text: words.title(video.verdict) + faces };
}

/** Everything that is shown of the video; frames come from the service as they are looked at. */
export function videoResult({ videos: [video] }, job, name, onPicture) {
  const tracks = video.tracks.map((track) => ({ name: `face ${track.id}`, points: track.frames.map((frame) => point(frame, video)) }));
  const points = tracks.flatMap((track) => track.points);
  const byTime = new Map(points.map(({ time, index }) => [time, index]));
  const times = [...byTime.keys()].sort((a, b) => a - b);
  const view = new FrameView(job, name, video, onPicture);
  const timeline = new Timeline({
    tracks, times, duration: Math.max(video.seconds, times.at(-1)), bands: video,
    onChoose: (at, told) => view.show(byTime.get(times[at]), told, boxesAt(video, byTime.get(times[at]))),
  });
  const goTo = ({ seconds }) => timeline.choose(times.indexOf(seconds));
  const result = make("div", { class: "result" },
    make("div", { class: "overall" }, view.element,
      make("div", { class: "side" }, finding(video, job.result.model), spread(video), moments(video, goTo))),
    make("section", { class: "timeline-part" },
      make("h4", {}, "Score over time"), timeline.element,
      make("p", { class: "soft" }, "Choose a point, or use the arrow keys, to see its frame."), legend(video)),
    kinds(video) ?? "");
  if (times.length) goTo(video.moments[0] ?? { seconds: times[0] });
  return result;
}

/** The frame that is looked at. Frames seen once are kept until the card goes. */
class FrameView {
  /** onPicture is told the address of the first frame that was shown. */
  constructor(job, name, { width, height }, onPicture) {
    Object.assign(this, { job, name, seen: new Map(), onPicture });
    this.image = make("img", { alt: "", width: String(width), height: String(height) });
    this.caption = make("figcaption", {});
    this.layers = make("div", { class: "layers" }, this.image);
    this.element = fit(make("figure", { class: "picture frame-view" }, this.layers, this.caption), { width, height });
  }

  async show(index, told, boxes) {
    this.wanted = index;
    this.caption.textContent = told;
    this.element.classList.add("loading");
    try {
      if (!this.seen.has(index)) this.seen.set(index, this.#load(index));
      const address = await this.seen.get(index);
      if (this.wanted !== index) return;
      this.image.src = address;
      this.layers.replaceChildren(this.image, ...boxes);
      this.onPicture?.(address);
      this.onPicture = null;
      this.image.alt = `Frame of ${this.name} with its faces framed. ${told}`;
    } catch (error) {
      this.seen.delete(index);
      if (this.wanted !== index) return;
      const gone = error.code === "not_found";
      this.caption.textContent = `${told} · ${gone ? "The service has forgotten the frames of this video." : error.message}`;
    }
    this.element.classList.remove("loading");
  }

  async #load(index) {
    const response = await api.ask(`${this.job.links.self}/frames/${index}`);
    return URL.createObjectURL(await response.blob());
  }
}

function point({ seconds, index, score }, { real_below: low, fake_from: high }) {
  const verdict = score >= high ? "fake" : score < low ? "real" : "uncertain";
  return { time: seconds, index, score, verdict };
}

function boxesAt({ tracks, width, height }, index) {
  const here = tracks.flatMap(({ id, frames }) => frames.filter((frame) => frame.index === index && frame.box).map(({ box }) => [id, box]));
  return here.map(([id, box]) => place(make("span", { class: "box", "aria-hidden": "true" }, tag(id, box, height)), percents(box, width, height)));
}

function spread({ spread: value, num_judged: judged, num_with_face: withFace, tracks, suspect_track: id }) {
  const { frames } = tracks.find((track) => track.id === id);
  const face = tracks.length > 1 ? `face ${id}, the most suspect of ${tracks.length}` : "the face";
  const mean = `The score is the mean over ${words.count(frames.length, "frame")} of ${face}; they spread by ${words.score(value)} (standard deviation).`;
  return make("p", { class: "soft" }, `${mean} ${words.count(judged, "frame")} judged, ${withFace} with a face. The error rates were measured on single pictures.`);
}

function moments({ moments: found }, goTo) {
  if (!found.length) return null;
  const buttons = found.map((moment) => button(words.clock(moment.seconds), () => goTo(moment), {
    class: "button moment", "aria-label": `Go to ${words.clock(moment.seconds)}, score ${words.score(moment.score)}`,
  }));
  buttons.forEach((element, i) => element.append(make("span", { class: "soft" }, words.score(found[i].score))));
  return make("div", { class: "moments", role: "group", "aria-label": "Most suspect moments" },
    make("h4", {}, "Most suspect moments"), make("div", { class: "row" }, buttons));
}

function legend({ tracks, real_below: low, fake_from: high }) {
  const rows = tracks.map((track, i) => make("tr", {},
    make("th", { scope: "row" }, draw("svg", { class: "swatch", viewBox: "0 0 30 10", "aria-hidden": "true" },
      draw("path", { class: `line ${trackClass(i)}`, d: "M1 5H29" })), `Face ${track.id}`),
    make("td", {}, verdictLabel(point(track, { real_below: low, fake_from: high }).verdict)),
    make("td", {}, `${words.score(track.score)} ± ${words.score(track.spread)}`),
    make("td", {}, `${track.frames.length}, ${words.clock(track.frames[0].seconds)} to ${words.clock(track.frames.at(-1).seconds)}`)));
  const head = ["Face", "Verdict", "Score ± spread", "Frames"];
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Faces of the video" }, make("table", { class: "legend" },
    make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, rows)));
}
