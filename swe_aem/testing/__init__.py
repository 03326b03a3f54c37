"""Fakes for tests and benchmarks: a sandbox backend, a vLLM server, a tiny model, and the steps of a training run."""
