"""How fast a config's programs run on the devices that are there, against what these could do."""
