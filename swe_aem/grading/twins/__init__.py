"""Twins: the FAIL_TO_PASS tests of a task, changed in place so that they contradict the originals.

Code that solves a task passes the tests and fails their twins. Code that makes tests pass, whatever it does to the
runner or reads of the expectations, passes both. `docs/grading.md` says what is changed, and what a twin proves.
"""
