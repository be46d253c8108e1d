// What the page says: verdicts, figures and names as people write them.

export const VERDICTS = ["real", "uncertain", "fake"];

const TITLES = { real: "Looks real", uncertain: "Uncertain", fake: "Looks forged" };
const SHORT = { real: "real", uncertain: "uncertain", fake: "forged" };
const LEVELS = { manipulation: "Manipulation", family: "Family", generator: "Generator" };
const KINDS = { gan: "GAN", real: "none (real)", unknown: "not known" };
const SPLITS = {
  val: "the faces on which the bands were fitted",
  test: "test faces from the sources it learnt from",
  test_unseen: "test faces with generators it never saw",
};

const SPLIT_ROWS = {
  test: "From the sources it learnt from",
  test_unseen: "With generators it never saw",
  val: "On which the bands were fitted",
};

export const title = (verdict) => TITLES[verdict];
export const short = (verdict) => SHORT[verdict];
export const levelName = (level) => LEVELS[level] ?? level;
export const splitName = (split) => SPLITS[split] ?? split.replaceAll("_", " ");
export const splitRow = (split) => SPLIT_ROWS[split] ?? splitName(split);
export const kindName = (name) => KINDS[name] ?? (/^[a-z_]+$/.test(name) ? name.replaceAll("_", " ") : name);

/** A score with the three decimals that every other form of the answer has. */
export const score = (value) => value.toFixed(3);

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 10 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(0)}%`;
}

/** Sizes as the service counts them: 1 MB is 1024 x 1024 bytes. */
export function bytes(number) {
  if (number < 1024) return `${number} B`;
  const [size, unit] = number < 1024 ** 2 ? [number / 1024, "kB"] : [number / 1024 ** 2, "MB"];
  return `${size < 10 ? size.toFixed(1) : size.toFixed(0)} ${unit}`;
}

/** Seconds as a player shows them: 0:03.2, 1:02:03. */
export function clock(seconds, decimals = 1) {
  const rounded = Number(seconds.toFixed(decimals));
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - 60 * minutes).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A message as a sentence, with capital and full stop. */
export function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

/** How long something still takes, in words that do not pretend to be exact. */
export function timeLeft(seconds) {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} seconds left`;
  return `about ${count(Math.ceil(seconds / 60), "minute")} left`;
}

/** Say how often the kind named for a forgery was right; empty if that was not measured. */
export function kindsInWords(measured) {
  const splits = Object.entries(measured ?? {}).filter(([split]) => split !== "val");
  const told = splits.flatMap(([split, levels]) => Object.entries(levels).map(([level, share]) =>
    `${levelName(level).toLowerCase()} ${percent(share.value)} on ${splitName(split)} (a guess: ${percent(share.chance)})`));
  return told.length ? `Named rightly, each kind counted alike: ${told.join("; ")}.` : "";
}

/** Say in sentences how often such a verdict is wrong, by what was measured for the weights. */
export function meaning(verdict, { verdict: bands, metrics }) {
  const rates = Object.entries(bands?.rates ?? {});
  if (rates.length) {
    const tests = rates.filter(([split]) => split !== "val"); // the others the bands have seen
    const sentences = (tests.length ? tests : rates).map(([split, part]) => ratesInWords(verdict, split, part));
    return [...sentences.filter(Boolean), ...(verdict === "uncertain" ? ["Such a score decides nothing."] : [])];
  }
  if (bands?.basis === "given") return ["The threshold was chosen by whoever runs this service; how often it errs is not known."];
  const right = Object.entries(metrics ?? {}).filter(([, part]) => known(part?.balanced_accuracy_fitted));
  if (!right.length) return ["These weights carry no measured error rates. Do not rely on the verdict."];
  return right.map(([split, part]) => `On ${splitName(split)}, ${range(part.balanced_accuracy_fitted)} of the verdicts were right.`);
}

function ratesInWords(verdict, split, rates) {
  const where = `On ${splitName(split)}`;
  if (verdict === "fake" && known(rates.false_alarm)) {
    return `${where}, ${range(rates.false_alarm)} of real faces were called forged too.`;
  }
  if (verdict === "real" && known(rates.miss)) {
    return `${where}, ${range(rates.miss)} of forged faces were called real too.`;
  }
  if (verdict === "uncertain" && known(rates.uncertain_real)) {
    return `${where}, ${range(rates.uncertain_real)} of real and ${range(rates.uncertain_fake)} of forged faces lie here.`;
  }
  return null;
}

export const known = (rate) => typeof rate?.value === "number";

/** A measured share with its 95% interval. */
export function range(rate) {
  if (!known(rate)) return "an unknown share";
  const interval = typeof rate.low === "number" ? ` (${percent(rate.low)} to ${percent(rate.high)})` : "";
  return `${percent(rate.value)}${interval}`;
}

export function timeSpan(seconds) {
  return seconds < 120 ? count(Math.round(seconds), "second") : count(Math.round(seconds / 60), "minute");
}
