"""Alert rules from a file: what to ask is analysis, whom to tell is the collector's; here both meet."""

ALERTS_ENV = "TAILSIGHT_ALERTS"
