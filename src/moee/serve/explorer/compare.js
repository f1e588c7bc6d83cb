// The view that takes the similarity of two texts apart.

import { Latest, request } from "./api.js";
import { barWidth, byId, element, percent, signed, weight } from "./dom.js";
import { withWeights } from "./explanation.js";
import { createHeat } from "./heat.js";
import { waitCard } from "./states.js";
import { VIEWS } from "./views.js";

const MOST_WORDS = 12;
const LEAST = 5e-4; // three digits show less as zero

function partRow(view, { cosine, share, part }, widest) {
  const bar = element("span", { class: `bar-fill tone-${view}${part < 0 ? " minus" : ""}` });
  bar.style.width = barWidth(Math.abs(part) / widest);
  return element(
    "tr",
    { "data-part": view },
    element("th", { scope: "row", class: `tone-${view}` }, VIEWS[view].long),
    element("td", {}, cosine === null ? "\u2013" : signed(cosine)),
    element("td", {}, `\u00d7 ${percent(share)}`),
    element("td", { class: "strong" }, signed(part)),
    element("td", { class: "bar-cell", "aria-hidden": "true" }, bar),
  );
}

const listed = new Intl.ListFormat("en", { type: "conjunction" });

function sentence({ similarity, views }) {
  const parts = Object.entries(views).filter(([, { part }]) => Math.abs(part) >= LEAST);
  if (!parts.length) return "Under these weights the two texts have nothing in common.";
  if (parts.every(([, { part }]) => part > 0)) {
    const from = parts.map(([view, { part }], at) => `${percent(part / similarity)} ${at ? "" : "comes "}from ${VIEWS[view].phrase}`);
    return `Of ${signed(similarity)}, ${listed.format(from)}.`;
  }
  const verb = (part) => (part < 0 ? "speaks against" : "speaks for");
  const said = parts.map(([view, { part }], at) => {
    const what = at ? "it" : "their being alike";
    return `${VIEWS[view].phrase} ${verb(part)} ${what} (${signed(part)})`;
  });
  const text = `${said.join("; ")}.`;
  return text[0].toUpperCase() + text.slice(1);
}

/** The words that both texts share with what each adds; the rest is added up, so that all make the view's part. */
function wordChips({ words, collisions }) {
  const shown = words.slice(0, MOST_WORDS);
  const others = words.slice(MOST_WORDS);
  const rows = shown.map(({ forms, part }) => [[...new Set(forms)].join(" / "), part]);
  if (others.length) rows.push([`${others.length} further`, others.reduce((all, { part }) => all + part, 0)]);
  if (Math.abs(collisions) >= LEAST) rows.push(["other words that share a coordinate", collisions]);
  return rows.map(([name, part]) =>
    element("li", { class: "chip" }, element("span", { dir: "auto" }, name), " ", element("span", { class: "chip-name" }, signed(part))),
  );
}

/**
 * The view.
 * @param {{
 *   weights: () => object,
 *   asksQuery: (first: string) => boolean,
 *   edited: (pair: string[]) => void,
 *   guard: Function,
 *   announce: (text: string) => void,
 * }} page
 */
export function createCompare(page) {
  const inputs = [byId("text-a"), byId("text-b")];
  const form = byId("pair");
  const error = byId("pair-error");
  const place = byId("pair-state");
  const body = byId("explanation");
  const heat = createHeat();
  const latest = new Latest();
  let explanation = null; // as the server gave it
  let answered = ""; // what was asked for it

  const texts = () => inputs.map((input) => input.value.trim());
  const question = (pair, weights) => ({ texts: pair, weights, as_query: page.asksQuery(pair[0]) });

  function fail(message, input) {
    error.textContent = message;
    error.hidden = false;
    inputs[input]?.focus();
  }

  function draw(shown) {
    const none = { cosine: null, share: 0, part: 0 };
    const parts = Object.keys(page.weights()).map((view) => [view, shown.views[view] ?? none]);
    const widest = Math.max(parts.reduce((all, [, { part }]) => all + Math.abs(part), 0), 1e-9);
    byId("similarity").textContent = signed(shown.similarity);
    byId("parts-sentence").textContent = sentence(shown);
    byId("parts-table").replaceChildren(...parts.map(([view, part]) => partRow(view, part, widest)));
    byId("words").hidden = !("lexical" in shown.views);
    const chips = wordChips(shown);
    byId("words-list").replaceChildren(...(chips.length ? chips : [element("li", {}, "None.")]));
    const widestPart = Math.max(...shown.top_experts.map((expert) => Math.abs(expert.part)), 1e-12);
    const rows = shown.top_experts.map((expert) => topRow(expert, widestPart));
    const had = [...byId("top-table").children].findIndex((row) => row === document.activeElement);
    byId("top-table").replaceChildren(...rows);
    for (const [index, row] of rows.entries()) row.tabIndex = index === Math.max(had, 0) ? 0 : -1;
    if (had >= 0) rows[had]?.focus({ preventScroll: true });
    place.replaceChildren();
    body.hidden = false;
    return heat.show(shown);
  }

  function topRow(expert, widest) {
    const bar = element("span", { class: `bar-fill tone-rw${expert.part < 0 ? " minus" : ""}` });
    bar.style.width = barWidth(Math.abs(expert.part) / widest);
    const point = () => void heat.point(expert.layer, expert.expert);
    const leave = () => void heat.point(null);
    return element(
      "tr",
      { on: { mouseenter: point, mouseleave: leave, focus: point, blur: leave } },
      element("th", { scope: "row" }, String(expert.layer)),
      element("td", {}, String(expert.expert)),
      element("td", { class: "with-bar" }, element("span", {}, signed(expert.part, 4)), bar),
      element("td", {}, weight(expert.weights[0])),
      element("td", {}, weight(expert.weights[1])),
    );
  }

  byId("top-table").addEventListener("keydown", (event) => {
    const rows = [...byId("top-table").children];
    const at = rows.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
    for (const other of rows) other.tabIndex = other === row ? 0 : -1;
    row.focus();
  });

  /** Ask for the exact explanation, unless it is at hand. */
  async function ask(weights) {
    const pair = texts();
    const asked = question(pair, weights);
    if (!pair[0] || !pair[1] || answered === JSON.stringify(asked)) return;
    if (body.hidden) place.replaceChildren(waitCard("Reading both texts \u2026", "The model reads each text once."));
    const answer = await latest.run((signal) =>
      page.guard(() => request("explain", asked, signal), (problem) => {
        place.replaceChildren();
        fail(problem.message, null);
      }),
    );
    if (!answer) return;
    error.hidden = true;
    explanation = answer;
    answered = JSON.stringify(asked);
    await draw(answer);
    page.announce(`Similarity ${signed(answer.similarity)}. ${sentence(answer)}`);
  }

  function submit() {
    const pair = texts();
    error.hidden = true;
    const missing = pair.findIndex((text) => !text);
    if (missing >= 0) return fail(`Text ${"AB"[missing]} is empty. Type one, or choose it from the results.`, missing);
    page.edited(pair);
    return ask(page.weights());
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
  });
  for (const input of inputs) {
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        void submit();
      }
    });
  }
  byId("swap").addEventListener("click", () => {
    [inputs[0].value, inputs[1].value] = [inputs[1].value, inputs[0].value];
    page.edited(texts());
    if (texts().every(Boolean)) void submit();
  });

  return {
    /** Put two texts into the fields, and explain them if there are two. */
    open(pair, note) {
      const same = pair.every((text, at) => text === texts()[at]);
      if (!same) {
        latest.cancel();
        for (const [at, input] of inputs.entries()) input.value = pair[at];
        body.hidden = true;
        error.hidden = true;
        place.replaceChildren();
      }
      byId("pair-cut").hidden = !note;
      byId("pair-cut").textContent = note;
      return ask(page.weights());
    },
    /** Follow the sliders: scale what is at hand, and ask when they rest. */
    follow(weights, isResting) {
      if (!explanation || body.hidden) return;
      const shown = withWeights(explanation, weights);
      if (shown) void draw(shown);
      if (isResting) void ask(weights);
    },
  };
}
