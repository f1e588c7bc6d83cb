"""The tables and figures of arXiv 2410.10814, made again from any model.

`targets` lists what can be made, `run` makes one target, `writer` puts it on disk. Every table of scores shows what the
original code computes beside the same thing done right, with the paper's number and a TF-IDF floor.
"""
