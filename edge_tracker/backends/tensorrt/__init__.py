"""TensorRT on a CUDA device: which engine fits, opening it, running it."""
