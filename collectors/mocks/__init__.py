"""In-memory implementations of every interface, for tests."""
