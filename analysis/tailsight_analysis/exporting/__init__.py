"""Everything that the store has of the spans of some traces, to be written elsewhere: which traces, and their spans."""
