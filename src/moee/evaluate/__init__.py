"""Evaluation: tasks to scores, for any model, fusion and recipe, from one pass over the texts.

The path of a text: `datasets` reads a task's folder; `views` runs the model once for each text and keeps what it gave;
`vectors` turns kept views into vectors under a `Setting`; `scoring` turns vectors into a score; `runner` does that for
every task and setting; `report` writes it down. `study.Study` ties a model, a data folder and the cache together.
"""
