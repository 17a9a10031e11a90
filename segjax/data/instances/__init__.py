"""Instances of images: what their files say, read, checked and counted."""
