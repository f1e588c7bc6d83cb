"""Files of texts and vectors: read, write, and replace as a whole or not at all."""
