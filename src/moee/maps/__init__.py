"""Maps of an index: every text a point in the plane, near those it is like, in topics with labels.

`pipeline.make_map` makes one; `table` and `picture` write it. The form that the server reads is `moee.index.map_file`.
"""
