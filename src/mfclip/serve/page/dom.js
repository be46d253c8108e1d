// Small builders of elements. Nothing here sets HTML from text, so a file name can do no harm.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element. Attributes beginning with "on" are listeners, true and false are flags. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** One of the marks that the page brings along. Beside words only, hence hidden from screen readers. */
export function icon(name) {
  return document.querySelector(`#icons [data-icon=${name}]`).firstElementChild.cloneNode(true);
}

/** A verdict as mark, words and colour; the mark's shape tells it without colour. */
export function verdictLabel(verdict, text) {
  return make("span", { class: `verdict ${verdict}` }, icon(verdict), text);
}

/** A push button; it must say `type`, or it would send a form. */
export function button(text, onclick, attributes = {}) {
  return make("button", { type: "button", class: "button", onclick, ...attributes }, text);
}

/** Save a blob under a name, as a click on a link does. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Copy text; where the modern interface is absent or refuses, through a selected field. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* plain http from afar, or no permission */ }
  const field = make("textarea", { class: "visually-hidden" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
