"""The `tailsight` command: a module a command, rendering, exit codes.

A bare `pip install tailsight` brings the SDK alone; each command says which extra it needs (see `commands`).
"""
