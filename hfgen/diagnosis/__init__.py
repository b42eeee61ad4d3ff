"""One checkpoint, interventions on it, and what they say about its blur: `hfgen diagnose`."""
