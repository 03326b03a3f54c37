"""Starts and supervises vLLM servers, and sends a trainer's weights to them.

`supervisor` starts and ends a server, `sync` sends new weights from the trainer, and `plugin` runs inside vLLM's
workers.
"""
