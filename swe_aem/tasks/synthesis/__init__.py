"""Generators of tasks: they put bugs into working code, run its tests, and describe the failure like an issue."""
