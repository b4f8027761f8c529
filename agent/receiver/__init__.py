"""The reference cloud end: takes packs, stores each reading once, acknowledges after the commit."""
