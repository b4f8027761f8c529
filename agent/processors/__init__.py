"""The steps of a pipeline: `decode` first, then steps that take readings and give readings."""
