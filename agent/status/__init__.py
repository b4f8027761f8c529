"""What the agent says about itself over its local socket, and how a person reads it."""
