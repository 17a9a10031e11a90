"""Ablations: a config's variants, who runs which, and the table of what came out."""
