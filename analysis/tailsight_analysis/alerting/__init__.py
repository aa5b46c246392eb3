"""Alert rules: what is wrong now, by the same questions that people ask.

Pure over a store; who is told, and when again, is the collector's affair.
See docs/alerts.md.
"""
