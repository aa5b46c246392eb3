"""Recording which code runs: find the process, run py-spy on it, join what it saw to the spans, and keep that."""
