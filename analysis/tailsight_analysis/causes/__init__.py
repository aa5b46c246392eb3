"""Why the tail is slow: conditions of requests, and which of them prove to be causes. `tail` asks it."""
