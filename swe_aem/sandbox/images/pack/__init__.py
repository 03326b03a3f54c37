"""Packing: an image of a registry, or of an engine, becomes one read-only file system image. No engine is needed.

manifest ──> layers, kept by digest ──> merged into one tar stream ──> sqfstar | mkfs.erofs ──> DIR/sha256-….squashfs
"""
