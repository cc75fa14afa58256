"""Students and teachers: built from checkpoints, made smaller, run for training."""
