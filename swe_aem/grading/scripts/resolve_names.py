"""Prints, behind a token, which names this interpreter finds outside of the work tree: JSON, name to kind.

Arguments: the token, the work tree, the names. Before Python 3.4 it prints nothing.
"""

import json
import os
import sys


def inside(place):
    """Does a path lie in the work tree, and not in a virtual environment there?"""
    path = os.path.realpath(place) + os.sep
    return path.startswith(tree) and not (prefix.startswith(tree) and prefix != tree and path.startswith(prefix))


token = sys.argv[1]
tree = os.path.realpath(sys.argv[2]) + os.sep
prefix = os.path.realpath(sys.prefix) + os.sep
sys.path[:] = [entry for entry in sys.path if entry and not inside(entry)]
try:
    from importlib.util import find_spec
except ImportError:
    sys.exit(0)
found = {}
for name in sys.argv[3:]:
    try:
        spec = find_spec(name)
    except Exception:  # finders of the image may raise anything
        spec = None
    if name in sys.builtin_module_names or (spec is None and name in sys.modules):
        found[name] = "module"
    elif spec is not None:
        places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
        if not places or not all(map(inside, places)):
            is_namespace = spec.loader is None or not (spec.has_location or spec.origin)
            found[name] = "namespace" if is_namespace else "module"
print(token + json.dumps(found))
