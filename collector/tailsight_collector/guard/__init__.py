"""Who may come in: tokens, TLS, and addresses that others reach."""
