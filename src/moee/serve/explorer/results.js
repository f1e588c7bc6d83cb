// The three columns of results: drawing them, moving through them by keys, and re-ranking without losing one's place.

import { barWidth, byId, element, reducesMotion, signed } from "./dom.js";
import { FUSIONS, shareOf } from "./ranking.js";
import { VIEWS, VIEW_NAMES } from "./views.js";

const SHOWN_AT_FIRST = 10;
const LONG_TEXT = 420; // characters; longer ones are folded
const SKELETONS = 5;

let numItems = 0; // every score has an id of its own, for the button that it describes

/** Whether a chosen text is this one; texts that were typed or came with the address have no id. */
export function isChosen(chosen, text) {
  if (!chosen) return false;
  return chosen.id === null ? chosen.text === text.text : chosen.id === text.id;
}

/** The part of a view in a hit's bar, as a share of its whole length. */
function barPart(fusion, hit, weights, view) {
  const cosine = hit.cosines[view] ?? 0;
  return fusion === "sum" ? shareOf(weights, view) * cosine : fusion === view ? cosine : 0;
}

function foldable(text) {
  if (text.length <= LONG_TEXT) return text;
  const end = text.lastIndexOf(" ", LONG_TEXT);
  return `${text.slice(0, end > LONG_TEXT / 2 ? end : LONG_TEXT)} \u2026`;
}

function fieldsLine(fields) {
  const given = Object.entries(fields ?? {}).filter(([, value]) => value !== null);
  if (!given.length) return null;
  return element(
    "p",
    { class: "chips" },
    ...given.map(([name, value]) =>
      element("span", { class: "chip" }, element("span", { class: "chip-name" }, name), ` ${value}`),
    ),
  );
}

/** One column: an `<ol>` whose items are kept by id, so that a new order moves them instead of redrawing them. */
class Column {
  constructor(section, actions) {
    this.fusion = section.dataset.fusion;
    this.list = section.querySelector("ol");
    this.note = section.querySelector(".freshness");
    this.actions = actions;
    this.items = new Map();
    this.hits = [];
  }

  clear() {
    this.items.clear();
    this.hits = [];
    this.note.textContent = "";
    this.list.replaceChildren();
  }

  waiting() {
    this.clear();
    this.list.setAttribute("aria-busy", "true");
    this.list.append(
      ...Array.from({ length: SKELETONS }, () =>
        element("li", { class: "skeleton", "aria-hidden": "true" }, element("span"), element("span"), element("span")),
      ),
    );
  }

  /** Draw hits in their order; texts that were there before glide to their new place. */
  draw(hits, weights, count) {
    this.list.removeAttribute("aria-busy");
    this.hits = hits;
    const shown = hits.slice(0, count);
    const before = new Map();
    if (!reducesMotion()) {
      for (const [id, item] of this.items) before.set(id, item.node.getBoundingClientRect().top);
    }
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    const items = new Map();
    for (const [place, hit] of shown.entries()) {
      const item = this.items.get(hit.id) ?? this.#item(hit);
      this.#update(item, hit, weights, place);
      items.set(hit.id, item);
    }
    this.items = items;
    this.list.replaceChildren(...[...items.values()].map((item) => item.node));
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    this.#glide(before);
    this.#oneTabStop();
  }

  #item(hit) {
    const scoreId = `score-${this.fusion}-${(numItems += 1)}`;
    const text = element("span", { class: "hit-text", dir: "auto" }, foldable(hit.text));
    const main = element(
      "button",
      {
        type: "button",
        class: "hit-main",
        "aria-pressed": "false",
        "aria-describedby": scoreId,
        tabindex: "-1",
        on: { click: () => this.actions.choose(hit) },
      },
      text,
    );
    const why = element(
      "button",
      {
        type: "button",
        class: "why",
        tabindex: "-1",
        title: "Compare it with the query (W)",
        on: { click: () => this.actions.why(hit) },
      },
      "Why?",
    );
    const place = element("span", { class: "place", "aria-hidden": "true" });
    const score = element("span", { class: "score", id: scoreId });
    const bar = element(
      "span",
      { class: "hit-bar", "aria-hidden": "true" },
      ...VIEW_NAMES.map((view) => element("span", { class: `part-${view}` })),
    );
    const views = element("span", { class: "hit-views" });
    const badge = element("span", { class: "badge", hidden: true });
    const meta = element("div", { class: "hit-meta" }, score, bar, views, why);
    const node = element(
      "li",
      { class: "hit", "data-id": hit.id, on: { mouseenter: () => this.actions.point(hit.id), mouseleave: () => this.actions.point(null) } },
      place,
      element("div", { class: "hit-body" }, main, fieldsLine(hit.fields), meta),
      badge,
    );
    if (text.textContent !== hit.text) {
      const unfold = element("button", { type: "button", class: "link unfold", tabindex: "-1" }, "Whole text");
      unfold.addEventListener("click", () => {
        text.textContent = hit.text;
        unfold.remove();
        main.focus();
      });
      main.after(unfold);
    }
    main.addEventListener("focus", () => this.actions.point(hit.id));
    main.addEventListener("blur", () => this.actions.point(null));
    return { hit, node, main, place, score, bar, views, badge };
  }

  #update(item, hit, weights, place) {
    item.place.textContent = String(place + 1);
    item.score.textContent = signed(hit.score);
    const named = VIEW_NAMES.filter((view) => view in hit.cosines);
    item.views.replaceChildren(
      ...named.flatMap((view, at) => [
        at ? " " : "",
        element("span", { class: `tone-${view}` }, `${VIEWS[view].short} ${signed(hit.cosines[view], 2)}`),
      ]),
    );
    for (const [at, view] of VIEW_NAMES.entries()) {
      item.bar.children[at].style.width = barWidth(barPart(this.fusion, hit, weights, view));
    }
  }

  #glide(before) {
    for (const [id, item] of this.items) {
      const top = before.get(id);
      if (top === undefined) continue;
      const distance = top - item.node.getBoundingClientRect().top;
      if (Math.abs(distance) < 1) continue;
      item.node.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], {
        duration: 220,
        easing: "cubic-bezier(0.2, 0.7, 0.2, 1)",
      });
    }
  }

  /** Tab enters a column once; arrows move inside it. */
  #oneTabStop() {
    const items = [...this.items.values()];
    const current = items.find((item) => item.node.contains(document.activeElement)) ?? items[0];
    for (const item of items) {
      for (const button of item.node.querySelectorAll("button")) button.tabIndex = item === current ? 0 : -1;
    }
  }

  /** Focus the item at a place, or the last one there is. */
  focus(place) {
    const items = [...this.items.values()];
    const item = items[Math.max(0, Math.min(place, items.length - 1))];
    if (!item) return false;
    item.main.focus();
    item.node.scrollIntoView({ block: "nearest", behavior: reducesMotion() ? "auto" : "smooth" });
    this.#oneTabStop();
    return true;
  }

  /** The place of the item that has the focus, or -1. */
  get focusedPlace() {
    return [...this.items.values()].findIndex((item) => item.node.contains(document.activeElement));
  }
}

/**
 * The columns together.
 * @param {{choose: (hit: object) => void, why: (hit: object) => void, leaveUp: () => void, drawn: () => void}} actions
 *     What choosing a result does, comparing it with the query, going up from the first one, and drawing them anew.
 */
export function createResults(actions) {
  const root = byId("columns");
  const more = byId("more");
  let count = SHOWN_AT_FIRST;
  let redraw = () => {};

  const point = (id) => {
    for (const node of root.querySelectorAll(".hit")) node.classList.toggle("pointed", node.dataset.id === id);
  };
  const columns = Object.fromEntries(
    FUSIONS.map((fusion) => [
      fusion,
      new Column(root.querySelector(`[data-fusion="${fusion}"]`), { ...actions, point }),
    ]),
  );

  const visible = () => FUSIONS.map((fusion) => columns[fusion]).filter((column) => column.list.offsetParent !== null);
  const focused = () => FUSIONS.map((fusion) => columns[fusion]).find((column) => column.focusedPlace >= 0);

  root.addEventListener("keydown", (event) => {
    const column = focused();
    if (!column || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = column.focusedPlace;
    const beside = visible();
    const at = beside.indexOf(column);
    const moves = {
      ArrowDown: () => column.focus(place + 1),
      ArrowUp: () => (place === 0 ? actions.leaveUp() : column.focus(place - 1)),
      ArrowRight: () => beside[at + 1]?.focus(place),
      ArrowLeft: () => beside[at - 1]?.focus(place),
      Home: () => column.focus(0),
      End: () => column.focus(Infinity),
      w: () => actions.why(column.hits[place]),
    };
    const move = moves[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!move) return;
    event.preventDefault();
    move();
  });

  more.addEventListener("click", () => {
    const first = count;
    count = count === SHOWN_AT_FIRST ? Infinity : SHOWN_AT_FIRST;
    redraw();
    if (count === Infinity) visible()[0]?.focus(first);
  });

  return {
    /** Show that an answer is awaited. */
    waiting() {
      count = SHOWN_AT_FIRST;
      more.hidden = true;
      for (const fusion of FUSIONS) columns[fusion].waiting();
    },
    clear() {
      more.hidden = true;
      for (const fusion of FUSIONS) columns[fusion].clear();
    },
    /** Draw one column. */
    draw(fusion, hits, weights) {
      columns[fusion].draw(hits, weights, count);
      const longest = Math.max(...FUSIONS.map((name) => columns[name].hits.length));
      more.hidden = longest <= SHOWN_AT_FIRST;
      more.textContent = count === Infinity ? `Show the first ${SHOWN_AT_FIRST}` : `Show all ${longest}`;
      redraw = () => {
        for (const name of FUSIONS) this.draw(name, columns[name].hits, weights);
        actions.drawn();
      };
    },
    /** Say where the order of a column comes from. */
    note(fusion, text) {
      columns[fusion].note.textContent = text;
    },
    /** Mark the chosen texts with their letters. */
    mark(pair) {
      for (const fusion of FUSIONS) {
        for (const item of columns[fusion].items.values()) {
          const at = pair.findIndex((chosen) => isChosen(chosen, item.hit));
          item.node.classList.toggle("chosen", at >= 0);
          item.main.setAttribute("aria-pressed", String(at >= 0));
          item.badge.hidden = at < 0;
          item.badge.textContent = at < 0 ? "" : "AB"[at];
        }
      }
    },
    /** Focus the first result of the first column on the screen. */
    focusFirst: () => visible()[0]?.focus(0) ?? false,
  };
}
