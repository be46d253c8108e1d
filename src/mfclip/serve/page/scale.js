// The verdict in words, and the score on a scale that shows the bands it comes from.

import { icon, make, place } from "./dom.js";
import * as words from "./words.js";

const NARROW = 0.13; // bands below this share of the scale are too narrow for their name

/** A verdict as mark, words and colour; the mark's shape tells it without colour. */
export function verdictLabel(verdict, text = words.title(verdict)) {
  return make("span", { class: `verdict ${verdict}` }, icon(verdict), text);
}

/** The scale from 0 to 1 with its bands, and a pointer at the score. */
export function scale(score, bands) {
  const edges = [0, bands.real_below, Math.min(1, bands.fake_from), 1];
  const parts = (named) => words.VERDICTS.map((verdict, i) => part(verdict, edges[i + 1] - edges[i], named));
  const pointer = place(make("span", { class: "scale-pointer" }), { left: 100 * score });
  const label = `Score ${words.score(score)} on a scale from 0, real, to 1, forged. ${bandsInWords(bands)}`;
  return make("div", { class: "scale", role: "img", "aria-label": label },
    make("div", { class: "scale-bands" }, parts(false)), pointer,
    make("div", { class: "scale-names" }, parts(true)), ticks(bands));
}

/** Say where the bands begin and end. */
export function bandsInWords({ real_below: low, fake_from: high }) {
  if (high > 1) return `Below ${words.score(low)} a face looks real, above it is uncertain.`;
  const below = `Below ${words.score(low)} a face looks real, `;
  return low < high
    ? `${below}from ${words.score(high)} forged, between them it is uncertain.`
    : `${below}from there forged.`;
}

/** What the verdict means, one sentence a line. */
export function meaning(verdict, model) {
  return make("ul", { class: "meaning" },
    words.meaning(verdict, model).map((text) => make("li", {}, text)));
}

function part(verdict, width, named) {
  const band = make("span", { class: `band ${verdict}` },
    named && width >= NARROW ? words.short(verdict) : "");
  band.style.flexGrow = width;
  return band;
}

function ticks({ real_below: low, fake_from: high }) {
  const places = [...new Set([0, low, high, 1])].filter((value) => value <= 1);
  const shown = places.filter((value, i) => i === 0 || value === 1 || value - places[i - 1] > 0.07);
  return make("div", { class: "scale-ticks" }, shown.map((value) =>
    place(make("span", {}, value === 0 || value === 1 ? String(value) : value.toFixed(2)), { left: 100 * value })));
}
