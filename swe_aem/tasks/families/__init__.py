"""Readers of data sets: one module for each family, and `registry`, which recognises a row's family by its columns."""
