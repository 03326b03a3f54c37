"""Pulling, pinning, unpacking, listing and removing images; see `docs/images.md`.

Nothing is imported here: `ledger` is loaded with every backend, the rest only by `swe-aem images`.
"""
