"""What the exit status of a command says."""

DONE = 0
FAILED = 1
WRONG_CONFIGURATION = 2
"""Usage or configuration; nothing was started."""
INTERRUPTED = 130
"""As a shell reports a command that SIGINT ended."""
