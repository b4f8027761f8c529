"""The store-and-forward buffer: a TinyDB made for flash."""
