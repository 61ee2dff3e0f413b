"""Checkpoints to the Hub, with their model cards."""
