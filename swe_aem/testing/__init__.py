"""Fakes for tests of what cannot or need not be had: a sandbox, the steps of a training run, a vLLM server."""
