// The sliders and the numbers that say how much each view counts.

import { byId, element, percent } from "./dom.js";
import { isSame, parseWeight, shareOf } from "./ranking.js";
import { VIEWS } from "./views.js";

const REST = 300; // milliseconds after which they count as resting
const MOST = 2; // the sliders go no further; the numbers beside them do

/** Where a weight stands on its slider, 0 to 1. */
const placeOf = (value) => Math.min(value, MOST) / MOST;

/** The controls of one view. */
class Row {
  constructor(view, changed, left) {
    const { label } = VIEWS[view];
    const id = `weight-${view}`;
    this.slider = element("input", { type: "range", id, min: "0", max: String(MOST), step: "0.05" });
    this.tick = element("span", { class: "tick", "aria-hidden": "true" });
    this.number = element("input", {
      type: "number",
      id: `${id}-number`,
      min: "0",
      step: "any",
      inputmode: "decimal",
      "aria-label": `Weight of ${label.toLowerCase()}`,
      "aria-describedby": "weight-error",
    });
    this.share = element("output", { id: `${id}-share`, for: id });
    this.node = element(
      "div",
      { class: `weight-row tone-${view}` },
      element("label", { for: id }, label),
      element("div", { class: "slider" }, this.slider, this.tick),
      this.number,
      this.share,
    );
    this.slider.addEventListener("input", () => changed(view, Number(this.slider.value)));
    this.number.addEventListener("input", () => changed(view, parseWeight(this.number.value), this.number));
    this.number.addEventListener("blur", left);
  }

  show(value, share, standard) {
    this.slider.value = String(value);
    this.slider.style.setProperty("--part", String(placeOf(value)));
    this.slider.setAttribute("aria-valuetext", `${Number(value.toPrecision(3))}, ${percent(share)} of the score`);
    this.share.textContent = percent(share);
    this.tick.style.left = `${100 * placeOf(standard)}%`;
    if (document.activeElement !== this.number) this.number.value = String(Number(value.toPrecision(3)));
  }
}

/**
 * @param {{moved: (weights: object) => void, rested: () => void, standard: () => object}} page What new weights do, at
 *     once and after a rest, and the weights of the index, by view.
 */
export function createWeight(page) {
  const box = byId("weight-rows");
  const error = byId("weight-error");
  const standard = byId("weight-default");
  let rows = {};
  let value = {};
  let resting = 0;

  /** Show a message under the controls; an empty one hides it. */
  function say(message, number = null) {
    error.textContent = message;
    error.hidden = !message;
    for (const row of Object.values(rows)) {
      row.number.setAttribute("aria-invalid", String(Boolean(message) && row.number === number));
    }
  }

  /** Make a row for every view, unless they are there. */
  function build(views) {
    if (views.join() === Object.keys(rows).join()) return;
    rows = Object.fromEntries(views.map((view) => [view, new Row(view, changed, left)]));
    box.replaceChildren(...Object.values(rows).map((row) => row.node));
  }

  /** Show weights without telling anybody. */
  function show(weights) {
    value = weights;
    build(Object.keys(weights));
    const usual = page.standard();
    for (const [view, row] of Object.entries(rows)) {
      row.show(weights[view], shareOf(weights, view), usual[view] ?? 0);
    }
    standard.hidden = isSame(weights, usual);
  }

  /** Take new weights. */
  function set(weights) {
    say("");
    if (isSame(weights, value)) return;
    show(weights);
    page.moved(weights);
    clearTimeout(resting);
    resting = setTimeout(page.rested, REST);
  }

  function changed(view, weight, number = null) {
    if (weight === null) {
      say(`A weight is a number, 0 or larger; ${number.value ? `${number.value} is not` : "none is given"}.`, number);
      return;
    }
    const weights = { ...value, [view]: weight };
    if (Object.values(weights).some((each) => each > 0)) {
      set(weights);
      return;
    }
    show(value);
    say("At least one view must count more than 0.", number);
  }

  function left() {
    say("");
    show(value);
  }

  standard.addEventListener("click", () => {
    set(page.standard());
    Object.values(rows)[0]?.slider.focus();
  });

  return { show, set, say };
}
