"""Statistics as pure functions over numpy arrays: they know nothing of stores, spans or requests."""
