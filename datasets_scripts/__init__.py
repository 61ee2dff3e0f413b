"""Raw files to canonical rows: one builder for each corpus, one schema for all (`schema.py`)."""
