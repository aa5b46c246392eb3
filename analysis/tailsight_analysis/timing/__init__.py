"""Spans in the order of time: streams, gaps, visits to queues. `jitter` and `queueing` ask it."""
