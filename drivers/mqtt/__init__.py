"""MQTT as a source of data. Import `config` or `source` from here as needed: only the latter costs aiomqtt."""
