"""Rules for alpha, the weight of RW in the sum, from cosines alone; `moee.evaluate.tune` chooses weights by quality."""
