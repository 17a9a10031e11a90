"""Networks that give every pixel a class and, of things, an instance."""
