"""Looks around for sensors, and proposes a configuration that would collect them."""
