// What the page says. The words come from the service, in the language of the browser.

const WORDS = JSON.parse(document.getElementById("words").textContent);

/** A string with its gaps filled. */
export function say(key, values = {}) {
  return WORDS[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether there is such a string. */
export const knows = (key) => key in WORDS;

export const VERDICTS = ["fake", "uncertain", "real"];

/** A number of things: `face`, `file`, `frame`, `second`, `minute`. */
export const count = (noun, number) => say(`${noun}.${number === 1 ? "one" : "many"}`, { number });

/** Numbers as the language writes them. */
const decimal = (text) => text.replace(".", say("number.decimal"));

/** A score with the three decimals that every form of the answer has. */
export const score = (value) => decimal(value.toFixed(3));

export const percent = (share) => say("number.percent", { number: (100 * share).toFixed(0) });

/** Sizes as the service counts them: 1 MB is 1024 x 1024 bytes. */
export function bytes(number) {
  if (number < 1024) return `${number} B`;
  const [size, unit] = number < 1024 ** 2 ? [number / 1024, "kB"] : [number / 1024 ** 2, "MB"];
  return `${decimal(size < 10 ? size.toFixed(1) : size.toFixed(0))} ${unit}`;
}

/** Seconds as a player shows them: 0:03.2, 1:02:03. */
export function clock(seconds, decimals = 1) {
  const rounded = Number(seconds.toFixed(decimals));
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - 60 * minutes).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** How long something still takes, in words that do not pretend to be exact. */
export function timeLeft(seconds) {
  if (seconds < 5) return say("card.left_few");
  const time = seconds < 55 ? count("second", Math.ceil(seconds / 5) * 5) : count("minute", Math.ceil(seconds / 60));
  return say("card.left", { time });
}

export function timeSpan(seconds) {
  return seconds < 120 ? count("second", Math.round(seconds)) : count("minute", Math.round(seconds / 60));
}
