"""One checkpoint, interventions on it, and what they say about its blur: `hfgen diagnose`."""

from hfgen.diagnosis.run import diagnose

__all__ = ["diagnose"]
