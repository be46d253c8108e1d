// The evidence for one face: heat map, richest patch, its noise, nearest known kinds.

import { make, percents, place } from "./dom.js";
import { meaning, scale, verdictLabel } from "./scale.js";
import * as words from "./words.js";

const SHOWN = 3; // kinds of each level
const LEAST = 0.005; // kinds that would read as 0% are left out

/** Verdict, score, scale, what the verdict means, and reasons to trust it less. */
export function finding(face, model, heading) {
  return make("div", { class: "finding" },
    heading ? make("h4", { class: "face-name" }, heading) : null,
    make("p", { class: "verdict-line" }, verdictLabel(face.verdict),
      make("span", { class: "score" }, "score ", make("b", {}, words.score(face.score)))),
    scale(face.score, face), meaning(face.verdict, model), warnings(face.warnings));
}

export function warnings(texts = []) {
  if (!texts.length) return null;
  return make("ul", { class: "notes", "aria-label": "Reasons to trust the score less" },
    texts.map((text) => make("li", {}, words.sentence(text))));
}

/** Pictures and ranking of one face. */
export function evidence(face) {
  const { evidence: views = {} } = face;
  return make("div", { class: "evidence" },
    make("div", { class: "views" }, heat(face, views),
      picture(views.patch, "Richest patch", "The part with most texture, enlarged."),
      picture(views.noise, "Its noise", "Grey is none, black and white the strongest. Stretched for viewing.")),
    kinds(face));
}

/** The face as the model saw it, with the heat map over it and a slider for how strong. */
function heat(face, views) {
  if (!views.face) return null;
  const base = make("img", { src: views.face, alt: "The face as the model saw it" });
  const layers = [base];
  const controls = [];
  if (views.heat_map) {
    const over = make("img", { class: "heat", src: views.heat_map, alt: "" });
    layers.push(over);
    controls.push(slider(over));
  }
  if (face.patch) layers.push(frame(face.patch, face.image_size));
  const caption = views.heat_map
    ? "Warm places raise the score most. The frame is the richest patch."
    : "What the model saw. These weights give no heat map.";
  return make("figure", { class: "view" },
    make("div", { class: "layers" }, layers),
    make("figcaption", {}, make("b", {}, views.heat_map ? "Heat map" : "The face"), caption), controls);
}

function slider(over) {
  const input = make("input", {
    type: "range", min: "0", max: "100", step: "5", value: "70", "aria-label": "Strength of the heat map",
  });
  const shown = make("output", { "aria-hidden": "true" });
  const update = () => {
    over.style.opacity = String(input.value / 100);
    shown.textContent = `${input.value}%`;
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", update);
  update();
  return make("div", { class: "slider" }, make("span", { "aria-hidden": "true" }, "Heat"), input, shown);
}

function frame(patch, size) {
  return place(make("span", { class: "patch-frame" }), percents(patch, size, size));
}

function picture(source, name, caption) {
  if (!source) return null;
  return make("figure", { class: "view" },
    make("div", { class: "layers" }, make("img", { class: "crisp", src: source, alt: `${name} of this face` })),
    make("figcaption", {}, make("b", {}, name), caption));
}

/** The ranked prompts, level by level; null for a model that knows none. */
export function kinds(face) {
  const levels = Object.entries(face.kinds ?? {}).filter(([level]) => level !== "label");
  if (!levels.length) return null;
  const remark = "By similarity to the prompts the model was taught. A generator it never saw gets the name of the nearest one it knows; the verdict does not depend on this.";
  return make("details", { class: "kinds", open: face.verdict !== "real" },
    make("summary", {}, "Nearest known kinds of forgery"),
    make("p", { class: "soft" }, remark),
    make("div", { class: "rankings" }, levels.map(([level, ranked]) => ranking(level, ranked))));
}

function ranking(level, ranked) {
  const shown = ranked.filter((kind) => kind.probability >= LEAST).slice(0, SHOWN);
  return make("div", {}, make("h4", {}, words.levelName(level)),
    make("ol", { class: "ranking" }, shown.map(({ name, probability }) => {
      const bar = place(make("span", { class: "bar" }), { width: 100 * probability });
      return make("li", {}, make("span", { class: "kind" }, words.kindName(name)),
        make("span", { class: "share" }, words.percent(probability)),
        make("span", { class: "track" }, bar));
    })));
}
