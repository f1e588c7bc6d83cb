// What stands where there is nothing to show: why, and what to do next.

import { byId, element, icon } from "./dom.js";

const EXAMPLES = ["How do I bake bread at home?", "A new world around a distant star", "Is it going to rain tomorrow?"];

/**
 * A card in place of what cannot be shown: what holds, what to do, and the commands or the button that do it.
 * @param {{title: string, text: string, commands?: string[], action?: {label: string, run: () => void}, tone?: string}} state
 */
export function stateCard({ title, text, commands = [], action = null, tone = "plain" }) {
  return element(
    "div",
    { class: `card empty ${tone}` },
    tone === "bad" ? icon("warning") : null,
    element("h2", {}, title),
    element("p", {}, text),
    commands.length ? element("pre", { tabindex: "0" }, element("code", {}, commands.join("\n"))) : null,
    action ? element("button", { type: "button", class: "button", on: { click: action.run } }, action.label) : null,
  );
}

/** The server was started without an index. */
export function noIndex() {
  return stateCard({
    title: "This server has no index to search",
    text: "Two texts can still be compared. To search your own, build an index from a file with one text a line (or JSONL, CSV, Parquet) and start the server with it:",
    commands: ["moee index build texts.txt --out my-index", "moee serve --index my-index"],
    action: { label: "Compare two texts", run: () => (location.hash = "compare") },
  });
}

/** @param {string} name Of the index. */
export function emptyIndex(name) {
  return stateCard({
    title: "The index is empty",
    text: "Add texts, then search again:",
    commands: [`moee index add ${name} texts.txt`],
  });
}

/**
 * @param {string} name Of the index.
 * @param {() => void} again
 */
export function noMap(name, again) {
  return stateCard({
    title: "This index has no map yet",
    text: "It is computed once, and this page shows it from then on:",
    commands: [`moee map ${name}`],
    action: { label: "Look again", run: again },
  });
}

/** The filter left nothing. */
export function nothingPasses() {
  return stateCard({
    title: "Nothing passes the filter",
    text: "No text of the index has such fields. Loosen the filter, or clear it.",
  });
}

/** A field has a message of its own. */
export function seeField(name) {
  return stateCard({ title: `The ${name} does not work yet`, text: "See the message under it." });
}

/**
 * @param {Error} error
 * @param {() => void} again
 */
export function problem(error, again) {
  return stateCard({
    title: "That did not work",
    text: error.message,
    tone: "bad",
    action: { label: "Try again", run: again },
  });
}

/** Something is on its way. */
export function waitCard(title, text) {
  return stateCard({ title, text, tone: "wait" });
}

/**
 * The page before the first question.
 * @param {(text: string) => void} ask
 */
export function welcome(ask) {
  const card = stateCard({
    title: "Search by what a model makes of a text",
    text: "Ask for something. You get three lists side by side: texts from which the model draws a similar conclusion, texts on which it worked in a similar way, and all views mixed as you like. Then choose two texts to see what makes them alike, inside the model.",
  });
  card.classList.add("welcome");
  card.append(document.importNode(/** @type {HTMLTemplateElement} */ (byId("welcome-picture")).content, true));
  card.append(
    element(
      "p",
      { class: "examples" },
      "Try ",
      ...EXAMPLES.map((text) =>
        element("button", { type: "button", class: "chip", on: { click: () => ask(text) } }, text),
      ),
    ),
  );
  return card;
}
