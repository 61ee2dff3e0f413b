"""Scores of whole data sets, beside floors."""
