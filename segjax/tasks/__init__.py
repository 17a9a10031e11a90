"""Tasks: what binds a network's outputs to losses and metrics."""
