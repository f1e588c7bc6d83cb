"""How a forward pass runs: batches, packing, the shared prefix, and capture of the views."""
