"""Our vectors in mteb: `encoder` is an embedder as mteb sees it, `layout` writes sets for it, `run` runs its tasks."""
