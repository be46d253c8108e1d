// Small builders of elements. Nothing here sets HTML from text, so a file name can do no harm.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element. Attributes beginning with "on" are listeners, true and false are flags. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element; numbers in the attributes are written with two decimals. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** One of the symbols of index.html. Beside words only, hence hidden from screen readers. */
export function icon(name) {
  return draw("svg", { class: `icon icon-${name}`, "aria-hidden": "true" },
    draw("use", { href: `#icon-${name}` }));
}

/** A push button; it must say `type`, or it would send a form. */
export function button(text, onclick, attributes = {}) {
  return make("button", { type: "button", class: "button", onclick, ...attributes }, text);
}

/** Put a box given in percent of its parent in place. Through CSSOM, which the CSP allows. */
export function place(element, sides) {
  for (const [side, percent] of Object.entries(sides)) {
    element.style.setProperty(side, `${percent.toFixed(3)}%`);
  }
  return element;
}

/** The sides of a box in pixels as percent of what it lies in. */
export function percents({ left, top, right, bottom }, width, height) {
  return { left: (100 * left) / width, top: (100 * top) / height,
    width: (100 * (right - left)) / width, height: (100 * (bottom - top)) / height };
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
    return;
  } catch { /* plain http from afar, or no permission */ }
  const field = make("textarea", { class: "visually-hidden" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser does not let this page copy");
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (typeof value === "number") element.setAttribute(name, String(+value.toFixed(2)));
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
