"""How a model runs that does not fit into memory: its layers are read from disk, one after the other."""
