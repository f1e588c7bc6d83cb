"""What the paper leaves open, measured: routing, domains, and the cost in production. One command each of `moee study`.

The tables and figures are exhibits of `moee.evaluate.reproduce`, and are written by its writer.
"""
