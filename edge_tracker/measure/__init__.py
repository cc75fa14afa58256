"""What a bundle does on this machine: parity, verification, latency, accuracy, what can run."""
