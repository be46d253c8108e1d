// What the service says of its model: bands, error rates, training, limits, licence.

import { make } from "./dom.js";
import { bandsInWords, meaning } from "./scale.js";
import * as words from "./words.js";

/** Show the facts about the model under "Limits" and "How to read it". */
export function showModel(model, facts, bands) {
  if (model.verdict) bands.textContent = bandsInWords(model.verdict);
  const about = [
    ["Trained on", model.trained_on ?? "The weights do not say what they were trained on."],
    ["Kinds of forgery", words.kindsInWords(model.kinds)],
    ["Known limits", model.limits],
    ["Licence of the weights", model.licence],
  ].filter(([, text]) => text);
  facts.replaceChildren(...[table(model.verdict) ?? meaning("fake", model),
    make("dl", {}, about.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]))].filter(Boolean));
}

/** How real and forged faces were called, one row a kind of faces. */
function table(bands) {
  const rates = Object.entries(bands?.rates ?? {}).sort(([a], [b]) => (a === "val") - (b === "val"));
  if (!rates.length) return null;
  const head = ["Faces", "real called forged", "forged called real", "uncertain"];
  const rows = rates.map(([split, part]) => make("tr", {},
    make("th", { scope: "row" }, words.splitRow(split)),
    [part.false_alarm, part.miss, part.uncertain].map((rate) => make("td", {}, share(rate)))));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Error rates" },
    make("table", {}, make("caption", {}, "How often the verdicts were wrong on faces it was not trained on, with 95% intervals"),
      make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, rows)));
}

function share(rate) {
  const [value, interval] = words.range(rate).split(" (");
  return [make("b", {}, value), interval ? make("span", { class: "interval" }, interval.replace(")", "")) : null];
}
