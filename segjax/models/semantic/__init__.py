"""Networks that label every pixel with a class."""
