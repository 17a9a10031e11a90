"""Panoptic segmentation: a class for every pixel, and an instance for every pixel of a thing."""
