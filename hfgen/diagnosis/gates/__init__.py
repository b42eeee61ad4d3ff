"""Cheap checks that come before any intervention; each is one small function of a `Context`."""
