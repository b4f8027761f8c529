"""Delivery of what the buffer holds: batches with identity, frozen once sent, acknowledged exactly."""
