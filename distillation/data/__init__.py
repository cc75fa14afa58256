"""What is trained on: images and sequences on disk, rendered samples, batches."""
