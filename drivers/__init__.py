"""Drivers: every way a reading reaches the device, each an IDataSource."""
