"""The running program: everything is wired here."""
