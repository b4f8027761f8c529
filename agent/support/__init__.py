"""What others need to see to help, without secrets and without readings."""
