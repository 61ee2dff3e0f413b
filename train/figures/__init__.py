"""Figures, one command each: `python -m train.figures.attention --help`."""
