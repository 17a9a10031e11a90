"""The command line: `main` dispatches, each other file wires one verb."""
