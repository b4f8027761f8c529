"""Serial ports: sensors that send frames over a device such as /dev/ttyUSB0, or over `socket://`."""
