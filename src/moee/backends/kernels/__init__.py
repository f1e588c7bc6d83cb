"""How the experts of a layer are computed: one file for each kernel, and `select`, which chooses."""
