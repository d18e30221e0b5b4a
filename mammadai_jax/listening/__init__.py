"""What listeners prefer: comparisons, simulated listeners, and what their choices amount to."""
