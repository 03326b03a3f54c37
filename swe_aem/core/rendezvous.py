"""Rendezvous hashing: each key has an order of all names, in which most keys keep their first one when names come and
go. Processes that do not speak with each other agree on it."""

import hashlib


def weight(key: str, name: str) -> bytes:
    """The weight of a name for a key: the name with the greatest one comes first."""
    return hashlib.sha256(f"{key}\0{name}".encode()).digest()


SPILL = 1.25
"""So many times its share may one have because hashes name it, before the next one is taken: bounded loads."""
