"""Bluetooth LE: sensors that advertise what they measure (`ble`), and sensors that are connected to (`gatt`)."""
