"""A simulated sensor: for trying things out, for demonstrations and for load."""
