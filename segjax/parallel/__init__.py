"""The device mesh, where arrays live on it, and how host batches get there."""
