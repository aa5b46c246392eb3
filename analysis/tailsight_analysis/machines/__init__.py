"""Hardware compared like with like, and what it costs. `hardware` asks it."""
