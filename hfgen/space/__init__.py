"""The Space: several models on the same input and the same seed. Only `interface` and `endpoints` need Gradio."""

import os

# Gradio reads it when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

RESULTS = ("comparison.json", "study.json", "posterior.json")
"""What `hfgen compare`, `study` and `study posterior` write of several models, and the Space shows."""
