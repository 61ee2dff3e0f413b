"""What every training shares: arguments, loading, Trainers, checkpoints, runs."""
