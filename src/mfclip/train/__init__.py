"""Training: loop, optimiser, checkpoints, log."""
