"""What makes the results tables, one command each."""
