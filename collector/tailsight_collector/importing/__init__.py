"""Other tools' files as OTLP requests: one module a format, found by content (registry.py says how to add one)."""
