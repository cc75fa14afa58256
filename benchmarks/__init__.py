"""Scripts that print ratios of things measured in turn in one process."""
