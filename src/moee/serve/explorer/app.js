// Ties the page together: what is asked, what is chosen, which view is open, what the address says.

import { Latest, request } from "./api.js";
import { readAddress, writeAddress } from "./address.js";
import { createCompare } from "./compare.js";
import { byId, counted, element, icon } from "./dom.js";
import { NUM_LIT, createMap } from "./map.js";
import { Candidates, FUSIONS, NUM_CANDIDATES } from "./ranking.js";
import { createResults, isChosen } from "./results.js";
import { emptyIndex, noIndex, noMap, nothingPasses, problem, seeField, waitCard, welcome } from "./states.js";
import { createStatus } from "./status.js";
import { VIEW_NAMES } from "./views.js";
import { createWeight } from "./weight.js";

const state = {
  view: "search",
  query: "",
  filter: "",
  weights: {}, // by view, in the order of the server
  pair: [null, null], // {id, text, cut}, or null
  info: null,
};

const status = createStatus(() => void loadInfo());
const searches = new Latest();
const reranks = new Latest();
let candidates = new Candidates();
let answers = {}; // fusion to the hits of the server
let isSearching = false; // whether the first answer to a question is awaited
let asked = null; // the question that they answer, or that is on its way

const index = () => state.info?.index ?? null;
const inOrder = (weights) => Object.fromEntries(VIEW_NAMES.filter((view) => view in weights).map((view) => [view, weights[view]]));

/** The weights that nothing was changed in: those of the index, else those of the model. */
function standardWeights() {
  const { info } = state;
  if (!info) return {};
  return inOrder(index()?.weights ?? { hs: 0, rw: 0, ...(info.weights ?? { hs: 1, rw: info.alpha }) });
}
const announce = (text) => {
  byId("live").textContent = text;
};

function remember(step) {
  const pair = state.pair.map((text) => text?.text ?? "");
  writeAddress({ ...state, pair, standard: standardWeights() }, step);
}

// ---- choosing two texts

const results = createResults({
  choose,
  why: (hit) => {
    state.pair = [{ id: null, text: state.query, cut: false }, { ...hit, cut: false }];
    openPair();
  },
  leaveUp: () => byId("query").focus(),
  drawn: () => results.mark(state.pair),
});

const map = createMap({
  // points carry the beginning of their texts; a hit has the whole one
  choose: (point) => {
    const whole = candidates.textOf(point.id);
    choose(whole === null ? point : { id: point.id, text: whole });
  },
});

const weight = createWeight({ moved: weightsMoved, rested: () => void weightsRested(), standard: standardWeights });

const compare = createCompare({
  weights: () => state.weights,
  // a hit may read as the query does; it stays a text of the index
  asksQuery: (first) => Boolean(first) && first === state.query && known(first).id === null,
  edited: (texts) => {
    state.pair = texts.map(known);
    showChosen();
    remember(true);
  },
  guard: status.guard,
  announce,
});

/** The chosen text that reads so, or one that was typed; null for none. */
function known(text) {
  if (!text) return null;
  return state.pair.find((chosen) => chosen?.text === text) ?? { id: null, text, cut: false };
}

/** Choose a text, or no longer choose it; a third one takes the place of the second. */
function choose(text) {
  const at = state.pair.findIndex((chosen) => isChosen(chosen, text));
  const chosen = { id: text.id, text: text.text, cut: text.cut ?? false };
  if (at === 0) state.pair = [state.pair[1], null];
  else if (at === 1) state.pair = [state.pair[0], null];
  else if (!state.pair[0]) state.pair = [chosen, state.pair[1]];
  else state.pair = [state.pair[0], chosen];
  showChosen();
  if (at < 0 && state.pair.every(Boolean)) openPair();
  else {
    remember(false);
    announce(state.pair.some(Boolean) ? "Chosen. Choose a second text to compare." : "No text is chosen.");
  }
}

function showLit() {
  map.light(litHits(), state.pair, isSearching);
}

function showChosen() {
  results.mark(state.pair);
  showLit();
  const count = state.pair.filter(Boolean).length;
  byId("tray").hidden = !count || state.view === "compare";
  byId("tray-list").replaceChildren(
    ...state.pair.flatMap((text, at) =>
      text
        ? [element("li", {}, element("span", { class: "badge" }, "AB"[at]), element("span", { class: "tray-text", dir: "auto" }, text.text))]
        : [],
    ),
  );
  byId("tray-hint").textContent = count === 1 ? "Choose a second text to see what they share." : "";
  byId("tray-compare").hidden = count < 2;
}

function openPair() {
  showChosen();
  setView("compare");
  remember(true);
  byId("compare-title").focus();
}

function clearChosen() {
  state.pair = [null, null];
  showChosen();
  remember(false);
  announce("No text is chosen.");
}

// ---- views

function cutNote() {
  const cut = state.pair.some((text) => text?.cut);
  return cut ? "A text from the map is shown and compared by its first 200 characters." : "";
}

function setView(view) {
  state.view = view;
  byId("ask").hidden = view === "compare";
  byId(view === "compare" ? "weight-between" : "weight-above").append(byId("weight"));
  for (const section of document.querySelectorAll("section.view")) section.hidden = section.dataset.view !== view;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${state.query ? `${state.query} \u2013 ` : ""}moee explorer`;
  showChosen();
  if (view === "compare") void compare.open(state.pair.map((text) => text?.text ?? ""), cutNote());
  if (view === "map") void openMap();
}

async function openMap() {
  const place = byId("map-state");
  const grid = byId("map-grid");
  if (map.loaded) {
    grid.hidden = false;
    return map.draw();
  }
  if (!state.info) return undefined;
  if (!index()) return place.replaceChildren(noIndex());
  if (!index().has_map) return place.replaceChildren(noMap(index().name, lookAgain));
  place.replaceChildren(waitCard("Reading the map \u2026", "Thousands of points take a moment."));
  const answer = await status.guard(
    () => request("map"),
    (error) =>
      place.replaceChildren(error.kind === "no_map" ? noMap(index().name, lookAgain) : problem(error, openMap)),
    openMap,
  );
  if (!answer) return undefined;
  place.replaceChildren();
  grid.hidden = false;
  await map.load(answer);
  return showLit();
}

/** See whether the server has got a map by now. */
async function lookAgain() {
  if (await loadInfo()) await openMap();
}

// ---- searching

function showState(card) {
  byId("search-state").replaceChildren(...(card ? [card] : []));
  byId("results").hidden = card !== null;
}

function fieldError(name, message) {
  const box = byId(`${name}-error`);
  box.textContent = message;
  box.hidden = !message;
  byId(name).setAttribute("aria-invalid", String(Boolean(message)));
}

const question = () => JSON.stringify([state.query, state.filter]);

function litHits() {
  const fusion = document.querySelector('input[name="lit"]:checked').value;
  return (fusion === "sum" ? candidates.ranked(state.weights) : (answers[fusion] ?? [])).slice(0, NUM_LIT);
}

function body(fusion, weights) {
  const chosen = fusion === "sum" ? { weights } : { fusion };
  return { query: state.query, k: NUM_CANDIDATES, ...chosen, filter: state.filter || null };
}

function searchFailed(error) {
  results.clear();
  isSearching = false;
  showLit();
  const isFilter = error.kind === "invalid_filter" || (state.filter && [400, 422].includes(error.status));
  if (isFilter) {
    fieldError("filter", error.message);
    byId("filter-box").hidden = false;
    showState(seeField("filter"));
    byId("filter").focus();
  } else if (error.kind === "no_index") {
    showState(noIndex());
  } else if ([400, 413, 422].includes(error.status)) {
    fieldError("query", error.message);
    showState(seeField("question"));
  } else {
    showState(problem(error, search));
  }
}

/** Search under all three columns; the third comes first, so that the model reads the query once. */
async function search() {
  reranks.cancel();
  for (const name of ["query", "filter"]) fieldError(name, "");
  if (!state.info) return;
  asked = question();
  candidates = new Candidates();
  answers = {};
  isSearching = Boolean(state.query && index()?.count);
  showLit();
  if (!index()) return showState(noIndex());
  if (!index().count) return showState(emptyIndex(index().name));
  if (!state.query) {
    searches.cancel();
    return showState(welcome(ask));
  }
  showState(null);
  results.waiting();
  const { weights } = state;
  const found = await searches.run((signal) =>
    status.guard(
      async () => {
        const sum = await request("search", body("sum", weights), signal);
        const [hs, rw] = await Promise.all(["hs", "rw"].map((fusion) => request("search", body(fusion, null), signal)));
        return { hs, rw, sum };
      },
      searchFailed,
      search,
    ),
  );
  isSearching = false;
  if (!found) return;
  for (const fusion of FUSIONS) {
    answers[fusion] = found[fusion].results;
    candidates.add(found[fusion].results);
  }
  if (!candidates.size) {
    results.clear();
    return showState(nothingPasses());
  }
  const isCurrent = state.weights === weights;
  results.draw("hs", answers.hs, weights);
  results.draw("rw", answers.rw, weights);
  // a slider may have moved while the answer was on its way
  results.draw("sum", isCurrent ? answers.sum : candidates.ranked(state.weights), state.weights);
  freshness(isCurrent);
  showChosen();
  const first = candidates.ranked(state.weights)[0];
  announce(`${counted(candidates.size, "text")} found. First of all together: ${first.text}`);
  if (!isCurrent) void weightsRested();
}

/** Say where the order of the third column comes from. */
function freshness(isExact) {
  const whole = `From the server, over all ${counted(index().count, "text")}`;
  results.note("hs", whole);
  results.note("rw", whole);
  results.note("sum", isExact ? whole : `Re-ranked here, ${counted(candidates.size, "text")} at hand`);
}

// ---- weights

/** Order what is at hand again, now. */
function weightsMoved(weights) {
  state.weights = weights;
  reranks.cancel();
  if (candidates.size) {
    results.draw("sum", candidates.ranked(weights), weights);
    freshness(false);
    showChosen();
  }
  compare.follow(weights, false);
}

/** Ask the server for the exact order. */
async function weightsRested() {
  remember(false);
  const { weights } = state;
  if (state.view === "compare") compare.follow(weights, true);
  if (!candidates.size) return;
  const answer = await reranks.run((signal) =>
    status.guard(() => request("search", body("sum", weights), signal), searchFailed, weightsRested),
  );
  if (!answer) return;
  answers.sum = answer.results;
  candidates.add(answer.results);
  results.draw("sum", answer.results, weights);
  freshness(true);
  showChosen();
  announce(`First of all together: ${answer.results[0]?.text ?? "none"}`);
}

// ---- the form, the keys, the start

function ask(query) {
  byId("query").value = query;
  state.query = query.trim();
  state.filter = byId("filter").value.trim();
  if (state.view === "compare") setView("search");
  else setView(state.view);
  remember(true);
  return search();
}

function isTyping(target) {
  return target.matches("textarea, select, input:not([type=radio], [type=range])");
}

function keys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) return;
    if (event.key === "Escape") {
      if (!byId("tray").hidden) clearChosen();
    } else if (event.key === "/") {
      event.preventDefault();
      if (state.view === "compare") {
        setView("search");
        remember(true);
      }
      byId("query").focus();
      byId("query").select();
    } else if (event.key === "?") byId("help").showModal();
  });
  byId("query").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && results.focusFirst()) event.preventDefault();
  });
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("help").addEventListener("click", (event) => {
    if (event.target === byId("help")) byId("help").close(); // a click beside the dialog
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
}

function showInfo() {
  const { info } = state;
  const texts = index() ? counted(index().count, "text") : "no index";
  status.pill("up", `${info.model_id} \u00b7 ${texts}`);
  const experts = [...new Set(info.num_experts)].join(" or ");
  byId("server").title = `${info.model_type}, ${info.num_moe_layers} layers of ${experts} experts, ${info.dtype} on ${info.device}`;
  byId("foot-version").textContent = `moee ${info.version}`;
  const fields = Object.entries(index()?.fields ?? {});
  byId("filter-box").hidden = !fields.length && !state.filter;
  const sample = { string: '"text"', integer: "1", number: "0.5", boolean: "true" };
  byId("filter").placeholder = fields.length ? `${fields[0][0]} == ${sample[fields[0][1]]}` : "";
  byId("filter-fields").replaceChildren(
    "Fields: ",
    ...fields.flatMap(([name, type], at) => [at ? ", " : "", element("code", {}, name), ` (${type})`]),
  );
  for (const note of document.querySelectorAll(".carved-note")) note.hidden = info.model_id !== "demo";
}

async function loadInfo() {
  const info = await status.guard(
    () => request("info"),
    (error) => showState(problem(error, start)),
    start,
  );
  if (!info) return false;
  state.info = info;
  showInfo();
  return true;
}

/** The weights of an address over the views that there are; those of the index if it names none that count. */
function addressWeights({ weights, wrong }) {
  const standard = standardWeights();
  if (!weights) return { weights: standard, wrong };
  const missing = Object.keys(weights).filter((view) => weights[view] > 0 && !(view in standard));
  if (missing.length) return { weights: standard, wrong: `The index has no view ${missing.join(" or ")}. Its default is used.` };
  const given = Object.fromEntries(Object.keys(standard).map((view) => [view, weights[view] ?? 0]));
  const counts = Object.values(given).some((each) => each > 0);
  return counts ? { weights: given, wrong } : { weights: standard, wrong: "In the address no view counts more than 0. The default of the index is used." };
}

/** Take over what the address says, and show it. */
function restore() {
  const address = readAddress();
  for (const name of ["query", "filter"]) {
    // what is typed and not yet asked stays when only the view changes
    if (address[name] !== state[name]) byId(name).value = address[name];
    state[name] = address[name];
  }
  state.pair = address.pair.map(known);
  const { weights, wrong } = addressWeights(address);
  if (asked === question()) weight.set(weights);
  else {
    state.weights = weights;
    weight.show(weights);
    void search();
  }
  setView(address.view);
  weight.say(wrong);
}

async function start() {
  if (await loadInfo()) restore();
}

function wire() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    void ask(byId("query").value);
  });
  byId("filter").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      void ask(byId("query").value);
    }
  });
  for (const choice of document.querySelectorAll('input[name="column"]')) {
    choice.addEventListener("change", () => (byId("columns").dataset.shown = choice.value));
  }
  for (const choice of document.querySelectorAll('input[name="lit"]')) {
    choice.addEventListener("change", () => showLit());
  }
  byId("tray-clear").addEventListener("click", clearChosen);
  byId("tray-compare").addEventListener("click", openPair);
  addEventListener("popstate", () => state.info && restore());
  keys();
}

byId("tray-clear").prepend(icon("close"));
byId("columns").dataset.shown = "sum";
wire();
setView(readAddress().view);
void start();
