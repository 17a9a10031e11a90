"""Metrics as sums: counted on the device, merged on the host, turned into scores in float64."""
