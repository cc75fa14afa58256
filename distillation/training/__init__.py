"""One stage of the training: losses, the loop, validation, and what a run leaves on disk."""
