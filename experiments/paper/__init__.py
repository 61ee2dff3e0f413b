"""The paper's tables and figures, each from one command of experiments/run.py; docs/reproduction.md shows what they gave.

The baselines are those of `experiments.baselines`. What reads and prints kept results (`values`, `orderings`, `command`, `reproduction`)
imports neither torch nor transformers.
"""
