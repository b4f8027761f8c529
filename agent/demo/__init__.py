"""The demo: the real program between simulated sensors and a real receiver, through a cut and a kill."""
