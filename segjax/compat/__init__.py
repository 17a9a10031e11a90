"""Other people's interfaces, on segjax's operations."""
