"""What the store has, as files of other tools: a module a format, and where the bytes go."""
