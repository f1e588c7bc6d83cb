"""What `moee bench` measures ours against, in a checkout alone: nothing here is part of the installed package.

`peers` runs others on our weights, `workers` gives each entry a process, `shapes` makes models of published widths from
random numbers, `scaling` measures time against one quantity at a time. `RIVALS` is what the command finds.
"""

from __future__ import annotations

from moee.bench.checkout import Rivals
from rivals.peers import PEERS
from rivals.scaling import SCALING_COLUMNS, choose_scaling, draw_scaling, run_scaling, scaling_rows
from rivals.shapes import SHAPES, ShapeSetup
from rivals.workers import OwnProcess

RIVALS = Rivals(
    peers=PEERS,
    shapes={name: shape.title for name, shape in SHAPES.items()},
    shape_setup=ShapeSetup,
    own_process=OwnProcess,
    choose_scaling=choose_scaling,
    run_scaling=run_scaling,
    scaling_columns=SCALING_COLUMNS,
    scaling_rows=scaling_rows,
    draw_scaling=draw_scaling,
)
