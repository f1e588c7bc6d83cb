// The arithmetic of the page: one hit has two cosines, and alpha says how much the second counts.

/** The three columns, in the order in which they stand. */
export const FUSIONS = ["hs", "rw", "sum"];

/** What the server is asked for under each view; the union is what the slider re-ranks. */
export const NUM_CANDIDATES = 50;

/** Beyond this share of routing the slider does not go: the column of routing alone shows the rest. */
export const MOST_SHARE = 0.9;

/** The score of a hit: `(cos_HS + alpha * cos_RW) / (1 + alpha)`. */
export function fuse(hit, alpha) {
  return (hit.hidden + alpha * hit.routing) / (1 + alpha);
}

/** The part of the score that routing decides, 0 to 1. */
export function shareOf(alpha) {
  return alpha / (1 + alpha);
}

/** The alpha of a share, to three digits, as it is shown and kept in the address. */
export function alphaOf(share) {
  return Number((share / (1 - share)).toPrecision(3));
}

/** Read an alpha that a person or an address gave; null if it is none. */
export function parseAlpha(text) {
  if (text === null || text.trim() === "") return null;
  const alpha = Number(text);
  return Number.isFinite(alpha) && alpha >= 0 ? alpha : null;
}

/** As the server does: best first, equal scores in the order of their ids. */
function rank(hits, score) {
  return hits
    .map((hit) => ({ ...hit, score: score(hit) }))
    .sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}

/** Everything that the server has shown for one query and filter. */
export class Candidates {
  #hits = new Map();

  /** How many different texts there are. */
  get size() {
    return this.#hits.size;
  }

  /** The whole text of an id, if it is at hand. */
  textOf(id) {
    return this.#hits.get(id)?.text ?? null;
  }

  /** Take in the hits of an answer. */
  add(hits) {
    for (const hit of hits) this.#hits.set(hit.id, hit);
  }

  /** The best under an alpha, of the texts at hand. */
  ranked(alpha, count = NUM_CANDIDATES) {
    return rank([...this.#hits.values()], (hit) => fuse(hit, alpha)).slice(0, count);
  }
}
