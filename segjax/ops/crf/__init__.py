"""Fully connected CRFs: Gaussian filters over pixel features, and mean-field inference on them."""
