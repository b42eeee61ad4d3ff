"""What `scripts/benchmark.py` measures: a module a command, with `add_arguments(parser)` and `run(arguments)`."""
