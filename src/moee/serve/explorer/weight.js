// The slider and the number that say how much routing counts.

import { byId, percent } from "./dom.js";
import { MOST_SHARE, alphaOf, parseAlpha, shareOf } from "./ranking.js";

const REST = 300; // milliseconds after which it counts as resting

/** Where a share stands on the slider, 0 to 1. */
const placeOf = (alpha) => Math.min(shareOf(alpha), MOST_SHARE) / MOST_SHARE;

/**
 * @param {{moved: (alpha: number) => void, rested: () => void, standard: () => number}} page What a new alpha does, at
 *     once and after a rest, and the alpha of the index.
 */
export function createWeight(page) {
  const slider = byId("alpha");
  const number = byId("alpha-number");
  const error = byId("alpha-error");
  const standard = byId("alpha-default");
  let value = 0;
  let resting = 0;

  /** Show a message under the controls; an empty one hides it. */
  function say(message) {
    error.textContent = message;
    error.hidden = !message;
    number.setAttribute("aria-invalid", String(Boolean(message)));
  }

  /** Show an alpha without telling anybody. */
  function show(alpha) {
    value = alpha;
    slider.value = String(100 * shareOf(alpha));
    slider.style.setProperty("--part", String(placeOf(alpha)));
    slider.setAttribute("aria-valuetext", `routing ${percent(shareOf(alpha))}, alpha ${Number(alpha.toPrecision(3))}`);
    byId("share").textContent = percent(shareOf(alpha));
    if (document.activeElement !== number) number.value = String(Number(alpha.toPrecision(3)));
    standard.hidden = alpha === page.standard();
    byId("alpha-tick").style.left = `${100 * placeOf(page.standard())}%`;
  }

  /** Take a new alpha. */
  function set(alpha) {
    say("");
    if (alpha === value) return;
    show(alpha);
    page.moved(alpha);
    clearTimeout(resting);
    resting = setTimeout(page.rested, REST);
  }

  slider.max = String(100 * MOST_SHARE);
  slider.addEventListener("input", () => set(alphaOf(Number(slider.value) / 100)));
  number.addEventListener("input", () => {
    const alpha = parseAlpha(number.value);
    if (alpha !== null) set(alpha);
    else say(`alpha is a number, 0 or larger; ${number.value ? `${number.value} is not` : "none is given"}.`);
  });
  number.addEventListener("blur", () => {
    say("");
    show(value);
  });
  standard.addEventListener("click", () => {
    set(page.standard());
    slider.focus();
  });

  return { show, set, say };
}
