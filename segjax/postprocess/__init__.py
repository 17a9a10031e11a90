"""From what a network returns to what a user wants: jittable, fixed shapes."""
