// The arithmetic of an explanation: its parts under other weights, without asking the server.

/** Multiply every part of a list by a factor. */
const scaled = (list, factor) => list.map((each) => ({ ...each, part: each.part * factor }));

/**
 * The explanation under other weights; null if one of the views was left out when it was made. Where a text lacks a
 * view, as one without words does, it is near; the server says it exactly.
 */
export function withWeights(explanation, weights) {
  const { views } = explanation;
  const wanted = Object.entries(weights).filter(([, weight]) => weight > 0);
  if (wanted.some(([view]) => !(view in views))) return null;
  const sum = wanted.reduce((all, [view, weight]) => all + (views[view].share > 0 ? weight : 0), 0);
  if (!sum) return null;
  const shareOf = (view) => (views[view].share > 0 ? (weights[view] ?? 0) / sum : 0);
  const shown = Object.fromEntries(
    wanted.map(([view, weight]) => {
      const share = shareOf(view);
      return [view, { ...views[view], weight, share, part: share * views[view].cosine }];
    }),
  );
  const factor = (view) => (views[view]?.share > 0 ? shareOf(view) / views[view].share : 0);
  return {
    ...explanation,
    views: shown,
    similarity: Object.values(shown).reduce((all, { part }) => all + part, 0),
    routing: shown.rw?.part ?? 0,
    words: scaled(explanation.words, factor("lexical")),
    collisions: explanation.collisions * factor("lexical"),
    layers: scaled(explanation.layers, factor("rw")).map((layer) => ({
      ...layer,
      parts: layer.parts.map((part) => part * factor("rw")),
    })),
    top_experts: scaled(explanation.top_experts, factor("rw")),
  };
}
