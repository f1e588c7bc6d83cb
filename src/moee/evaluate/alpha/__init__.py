"""Where alpha, the weight of RW in the sum, is chosen: `ways` computes each choice, `tune` runs them on texts."""
