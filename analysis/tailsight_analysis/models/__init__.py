"""Variants of a model compared. `pareto` asks it."""
