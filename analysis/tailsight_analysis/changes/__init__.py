"""At which points does a series change its level? Pure functions over numbers; see docs/analysis/regressions.md."""
