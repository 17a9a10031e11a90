"""Part segmentation of point clouds: a part for every point."""
