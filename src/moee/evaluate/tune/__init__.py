"""Weights of the views, layers of RW and statistics for texts of one's own, with the evidence.

`siblings` makes pairs of unlabelled documents, `criterion` says how good cosines are, `search` tries weights on
cosines, and `run` ties them to an embedder. Labelled pairs can take the place of siblings.
"""
