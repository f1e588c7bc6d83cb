"""The method of the paper: from a prompt to the views of a text, and from views to one vector and its explanation.

Everything here is plain array code on numpy and knows no model; pooling alone takes tensors, where they lie.
"""
