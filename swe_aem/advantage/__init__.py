"""Advantage estimators: what they are given (`inputs`), one file each, and how a configuration names them."""
