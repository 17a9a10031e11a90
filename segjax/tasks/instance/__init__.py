"""Instance segmentation: a mask, a class and a score for each object."""
