"""Requests replayed under changes of their stages. `whatif` asks it."""
