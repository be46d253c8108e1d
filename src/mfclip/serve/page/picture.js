// The result for a picture: the picture with a box for every face; choosing one shows its evidence.

import { make, percents, place } from "./dom.js";
import { evidence, finding } from "./face.js";
import { verdictLabel } from "./scale.js";
import * as words from "./words.js";

/** Largest height of a picture, rem. */
const TALLEST = 23;

/** Verdict and score of the most suspect face, and how the faces divide. */
export function summary({ predictions: faces }) {
  const { verdict, score } = faces[mostSuspect(faces)];
  const told = words.VERDICTS.map((kind) => [kind, faces.filter((face) => face.verdict === kind).length]);
  const parts = told.filter(([, number]) => number).map(([kind, number]) => `${number} ${words.short(kind)}`);
  const text = faces.length > 1 ? `${faces.length} faces: ${parts.join(", ")}` : words.title(verdict);
  return { verdict, score, text };
}

/** Everything that is shown of the picture. */
export function pictureResult(answer, name) {
  const { predictions: faces, model } = answer;
  const details = make("div", { class: "face-details" });
  const side = make("div", { class: "side" });
  const buttons = faces.map((face, i) => ({ box: box(face, i), tab: tab(face, i) }));
  const choose = (chosen) => {
    const face = faces[chosen];
    const heading = faces.length > 1 ? `Face ${chosen + 1} of ${faces.length}` : null;
    side.replaceChildren(...[tabs(buttons), finding(face, model, heading)].filter(Boolean));
    details.replaceChildren(evidence(face));
    buttons.forEach((pair, i) => Object.values(pair).forEach((element) =>
      element?.setAttribute("aria-pressed", String(i === chosen))));
  };
  buttons.forEach((pair, i) => Object.values(pair).forEach((element) =>
    element?.addEventListener("click", () => choose(i))));
  choose(mostSuspect(faces));
  return make("div", { class: "result" },
    make("div", { class: "overall" }, show(answer, buttons, name), side), details);
}

const mostSuspect = (faces) => faces.reduce((best, face, i) => (face.score > faces[best].score ? i : best), 0);

const label = (face, i) => `Face ${i + 1}: ${words.title(face.verdict)}, score ${words.score(face.score)}`;

function show({ picture, predictions: [first] }, buttons, name) {
  const boxes = buttons.map(({ box: element }) => element).filter(Boolean);
  const caption = boxes.length
    ? `${words.count(boxes.length, "face")} found. ${boxes.length > 1 ? "Choose a face to see its evidence." : ""}`
    : "The whole picture was taken as one face.";
  const layers = make("div", { class: "layers" },
    make("img", { src: picture, alt: name, width: String(first.width), height: String(first.height) }), boxes);
  return fit(make("figure", { class: "picture" }, layers, make("figcaption", {}, caption)), first);
}

/** Make a figure as large as it may be without its picture being higher than `TALLEST`. */
export function fit(figure, { width, height }) {
  figure.style.width = `${(TALLEST * width) / height}rem`;
  return figure;
}

function box(face, i) {
  if (!face.face) return null;
  const element = make("button", {
    type: "button", class: `box ${face.verdict}`, "aria-label": label(face, i), title: label(face, i),
  }, tag(i + 1, face.face, face.height));
  return place(element, percents(face.face, face.width, face.height));
}

/** The number of a face: above its box, or in it at the picture's upper edge. */
export function tag(number, { top }, height) {
  return make("span", { class: `tag${top < 0.1 * height ? " inside" : ""}`, "aria-hidden": "true" }, String(number));
}

/** The same choice as the boxes, for faces too small to hit with a finger. */
function tabs(buttons) {
  if (buttons.length < 2) return null;
  return make("div", { class: "tabs", role: "group", "aria-label": "Faces" }, buttons.map(({ tab: element }) => element));
}

function tab(face, i) {
  return make("button", { type: "button", class: "tab", "aria-label": label(face, i) },
    `${i + 1}`, verdictLabel(face.verdict, words.score(face.score)));
}
