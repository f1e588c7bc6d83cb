"""How fast, how close to what the machine can do, and how much memory: ours against the machine.

`work` counts floating-point operations, `machine` measures what the hardware gives, `workloads` makes texts, `weights`
is the model that entries share, `entries` has ours, `worker` times a pass, `same_vectors` sees that all compute the
same, `run` puts it together, `tables` and `plots` show what was found. `checkout` finds what is not installed: peers on
the same weights, a process for each, models of random weights, and scaling.
"""
