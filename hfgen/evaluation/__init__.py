"""A model and held-out images -> its record, and the images behind it."""
