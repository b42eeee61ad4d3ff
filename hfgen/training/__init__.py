"""The training engine: one step for every family."""
