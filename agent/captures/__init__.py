"""Captures: what a port really said, and when, kept in a file and played again."""
