"""Several evaluations -> differences, figures and a page in words."""
