// The arithmetic of the page: one hit has a cosine for every view, and weights say how much each counts.

/** The three columns, in the order in which they stand: two views alone, and all by their weights. */
export const FUSIONS = ["hs", "rw", "sum"];

/** What the server is asked for under each column; the union is what the sliders re-rank. */
export const NUM_CANDIDATES = 50;

/** The sum of weights. */
export function total(weights) {
  return Object.values(weights).reduce((sum, weight) => sum + weight, 0);
}

/** The score of a hit: the mean of its cosines under the weights. */
export function fuse(hit, weights) {
  const sum = Object.entries(weights).reduce((score, [view, weight]) => score + weight * (hit.cosines[view] ?? 0), 0);
  return sum / total(weights);
}

/** The part of the score that one view decides, 0 to 1. */
export function shareOf(weights, view) {
  return (weights[view] ?? 0) / total(weights);
}

/** Whether two sets of weights say the same of every view. */
export function isSame(one, other) {
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].every(
    (view) => (one[view] ?? 0) === (other[view] ?? 0),
  );
}

/** Read a weight that a person or an address gave; null if it is none. */
export function parseWeight(text) {
  if (text === null || text.trim() === "") return null;
  const weight = Number(text);
  return weight === 0 || (weight >= 1e-6 && weight <= 1e6) ? weight : null;
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

  /** The best under some weights, of the texts at hand. */
  ranked(weights, count = NUM_CANDIDATES) {
    return rank([...this.#hits.values()], (hit) => fuse(hit, weights)).slice(0, count);
  }
}
