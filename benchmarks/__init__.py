"""What does a guarded call cost? Ratios to a handwritten floor, beside those of the peers: `python -m benchmarks`."""
