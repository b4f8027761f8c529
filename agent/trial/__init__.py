"""A dry run: what the pipelines of a configuration make of recorded or stored data. Nothing is stored or sent."""
