"""Evaluation: tasks to scores, for any model, fusion and recipe, from one pass over the texts.

The path of a text: `tasks` reads a task's folder; `moee.view_store` runs the model once for each text and keeps what it
gave; `vectors` turns kept views into vectors under a `Setting`; `tasks` turns vectors into a score, with one file for
each type of task; `runner` does that for every task and setting; `result_files` writes it down. `study.Study` ties a
model, a data folder and the cache together. `alpha` chooses the weight of RW, `mteb` runs the same vectors in mteb,
`reproduce` makes the paper's tables with the original code's way.
"""
