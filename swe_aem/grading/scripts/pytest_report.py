# A pytest plugin that records that a session came to its end, and with which results. It is written into the sandbox
# just before the tests start, and the first thing that it does is to remove itself and its traces from the environment.
# The key never leaves the process: the record is signed with it, so that whoever reads the record cannot write another.
# Runs on whatever Python and pytest an image has, so: nothing newer than Python 3.5.
import hashlib
import json
import os
import shutil
import sys

KEY, RECORD = "@KEY@", "@RECORD@"
_HERE = os.path.dirname(os.path.abspath(__file__))


def _restore(name, ours, separator):
    """Remove the part that was put in front of an environment variable."""
    rest = os.environ.get(name, "")[len(ours) :].lstrip(separator)
    if rest:
        os.environ[name] = rest
    else:
        os.environ.pop(name, None)


def _make_hooks(key, path):
    owner, results = os.getpid(), {}
    digest, dumps = hashlib.sha256, json.dumps

    def sign(text):
        inner = digest((key + text).encode("utf-8")).hexdigest()
        return digest((key + inner).encode("utf-8")).hexdigest()

    def logreport(report):
        if report.failed:
            results[report.nodeid] = "failed"
        elif report.when == "call" and (report.passed or hasattr(report, "wasxfail")):
            results.setdefault(report.nodeid, "passed")

    def unconfigure():
        if os.getpid() == owner:
            text = dumps(results)  # plain ASCII
            with open(path, "w") as stream:
                stream.write(sign(text) + "\n" + text)

    return logreport, unconfigure


_restore("PYTEST_ADDOPTS", "-p " + __name__, " ")
_restore("PYTHONPATH", _HERE, os.pathsep)
sys.path[:] = [entry for entry in sys.path if entry != _HERE]
shutil.rmtree(_HERE, ignore_errors=True)
pytest_runtest_logreport, pytest_unconfigure = _make_hooks(KEY, RECORD)
del KEY, RECORD
