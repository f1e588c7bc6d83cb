// What can be shared: query, weights, filter and the two texts stand in the address, the page's view behind its #.

import { isSame, parseWeight } from "./ranking.js";
import { VIEW_NAMES } from "./views.js";

export const VIEWS = ["search", "compare", "map"];

/** The weights of an address, those that could not be read, and null if it says nothing of any. */
function weightsOf(parameters) {
  // alpha, which the page knew before it knew of other views, weighs the route beside the conclusion
  const alpha = parameters.get("alpha");
  const given = new Map(VIEW_NAMES.filter((view) => parameters.has(view)).map((view) => [view, parameters.get(view)]));
  if (!given.size && alpha !== null) given.set("alpha", alpha);
  const wrong = [...given].filter(([, text]) => parseWeight(text) === null).map(([name, text]) => `${name}=${text}`);
  const numbers = Object.fromEntries([...given].map(([name, text]) => [name, parseWeight(text)]));
  const weights = "alpha" in numbers ? { hs: 1, rw: numbers.alpha } : numbers;
  return [given.size && !wrong.length ? weights : null, wrong];
}

/** Read the address. `wrong` says what could not be read, in words, or is empty. */
export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const named = location.hash.slice(1);
  const [weights, wrong] = weightsOf(parameters);
  return {
    view: VIEWS.includes(named) ? named : "search",
    query: parameters.get("q") ?? "",
    filter: parameters.get("filter") ?? "",
    weights,
    pair: [parameters.get("a") ?? "", parameters.get("b") ?? ""],
    wrong: wrong.length
      ? `The address asks for ${wrong.join(" and ")}; a weight is a number, 0 or larger. The default of the index is used.`
      : "",
  };
}

/** Write the state into the address: a new step of the history, or in place of the last one. */
export function writeAddress({ view, query, filter, weights, standard, pair }, step) {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (filter) parameters.set("filter", filter);
  if (!isSame(weights, standard)) {
    for (const [name, weight] of Object.entries(weights)) parameters.set(name, String(weight));
  }
  if (pair[0]) parameters.set("a", pair[0]);
  if (pair[1]) parameters.set("b", pair[1]);
  const search = parameters.size ? `?${parameters}` : "";
  const url = `${location.pathname}${search}#${view}`;
  if (url === `${location.pathname}${location.search}${location.hash}`) return;
  if (step) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}
