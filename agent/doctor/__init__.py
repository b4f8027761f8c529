"""`outstation doctor`: looks at everything that the agent needs, from outside, and says what to do about what is wrong."""
