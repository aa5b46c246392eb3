"""One trace, read and accounted for. `trace` asks it."""
