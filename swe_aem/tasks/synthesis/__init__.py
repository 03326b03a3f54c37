"""Generators of tasks: bugs planted in working code, probed by its tests, and described as an issue would."""
