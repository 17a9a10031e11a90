"""Linen layers that two or more architectures use. Parameters are float32; `dtype` is the type of the arithmetic."""
