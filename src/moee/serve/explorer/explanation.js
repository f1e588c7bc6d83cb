// The arithmetic of an explanation: its parts under another alpha, without asking the server.

/** Multiply every part of routing by a factor. */
function scaled(explanation, hiddenFactor, routingFactor, alpha) {
  const hidden = explanation.hidden * hiddenFactor;
  const routing = explanation.routing * routingFactor;
  return {
    ...explanation,
    alpha,
    hidden,
    routing,
    similarity: hidden + routing,
    layers: explanation.layers.map((layer) => ({
      ...layer,
      part: layer.part * routingFactor,
      parts: layer.parts.map((part) => part * routingFactor),
    })),
    top_experts: explanation.top_experts.map((expert) => ({ ...expert, part: expert.part * routingFactor })),
  };
}

/** The explanation under another alpha; null if it was made with alpha 0, which leaves nothing of routing to scale. */
export function withAlpha(explanation, alpha) {
  const made = explanation.alpha;
  if (made === alpha) return explanation;
  if (made === 0) return null;
  const whole = (1 + made) / (1 + alpha);
  return scaled(explanation, whole, (whole * alpha) / made, alpha);
}
