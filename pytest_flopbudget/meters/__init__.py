"""What touches torch: the counter and its formulas, memory, latency, the machine."""
