"""A config from the data: rules that read a fingerprint and a machine, and the config file that they leave."""
