"""The serving room: starts and supervises vLLM, and brings a trainer's weights to it.

`serve.sync` is the trainer's side of new weights, `serve.supervisor` the life of a server, `serve.plugin` what runs
inside vLLM's workers.
"""
