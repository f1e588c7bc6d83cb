// Makes elements. Strings become text nodes, never HTML, so no text of an index can turn into markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `class`, `on` (event name to listener), or any attribute; null leaves it out.
 * @param {...(Node | string | null)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** An icon of the sprite at the top of the page. */
export function icon(name) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("class", "icon");
  node.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  node.append(use);
  return node;
}

/** The element with this id; the page always has it. */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element #${id}`);
  return node;
}

/** A cosine or a part of one, with a true minus sign. */
export function signed(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `\u2212${text}` : text;
}

/** A share of one as a whole percentage; parts too small to show are not called nothing. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "under 1\u202f%";
  return `${Math.round(100 * share)}\u202f%`;
}

/** A routing weight: a percentage with one digit, for there are many experts and each has little. */
export function weight(value) {
  return `${(100 * value).toFixed(1)}\u202f%`;
}

/** A length of a bar as CSS; bars of negative scores are empty, the number beside them says how much. */
export function barWidth(share) {
  return `${Math.max(0, Math.min(1, share)) * 100}%`;
}

/** "1 text", "4,096 texts". */
export function counted(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

/** Whether the person asked the system for less motion. */
export function reducesMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
