"""How fast, how close to what the machine can do, and how much memory: ours beside its peers on the same weights.

`work` counts floating-point operations, `machine` measures what the hardware gives, `shapes` builds models of true
width from random numbers, `workloads` makes texts, `contestants` and `peers` run models, `seats` gives each a place
(this process, or one of its own), `rounds` lets them take turns, `law` measures time against one quantity at a time,
`tables` and `plots` show what was found.
"""
