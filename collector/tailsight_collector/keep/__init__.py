"""How an acknowledged request is kept until the store has it for good: journal, loading, checkpoints, quarantine."""
