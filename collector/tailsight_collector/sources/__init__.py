"""What other tools send becomes stages: the rules of sources, applied where a request comes in. See docs/sources.md."""

from tailsight_collector.sources.apply import SourceStages

__all__ = ["SourceStages"]
