"""Networks: one architecture, one file; its name is the registry key."""
