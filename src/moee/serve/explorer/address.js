// What can be shared: query, alpha, filter and the two texts stand in the address, the view behind its #.

import { parseAlpha } from "./ranking.js";

export const VIEWS = ["search", "compare", "map"];

/** Read the address. `wrong` says what could not be read, in words, or is empty. */
export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const named = location.hash.slice(1);
  const given = parameters.get("alpha");
  const alpha = parseAlpha(given);
  const wrong =
    given !== null && alpha === null
      ? `The address asks for alpha=${given}; alpha is a number, 0 or larger. The default of the index is used.`
      : "";
  return {
    view: VIEWS.includes(named) ? named : "search",
    query: parameters.get("q") ?? "",
    filter: parameters.get("filter") ?? "",
    alpha,
    pair: [parameters.get("a") ?? "", parameters.get("b") ?? ""],
    wrong,
  };
}

/** Write the state into the address: a new step of the history, or in place of the last one. */
export function writeAddress({ view, query, filter, alpha, defaultAlpha, pair }, step) {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (filter) parameters.set("filter", filter);
  if (alpha !== defaultAlpha) parameters.set("alpha", String(alpha));
  if (pair[0]) parameters.set("a", pair[0]);
  if (pair[1]) parameters.set("b", pair[1]);
  const search = parameters.size ? `?${parameters}` : "";
  const url = `${location.pathname}${search}#${view}`;
  if (url === `${location.pathname}${location.search}${location.hash}`) return;
  if (step) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}
