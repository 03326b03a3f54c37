"""Put on a control's PYTHONPATH as `sitecustomize.py`: records what each Python of the session tries to import.

The call is appended to this text, with the directory of the record, which anybody may write to, and the work tree. One
symbolic link there for each name (its target is `n`, then the name) and each directory of the work tree that was on a
path (`p`, then the directory). Every import, also one that finds nothing and one by `importlib`, passes `_find_spec`.
"""


def record_imports(record, tree):
    """Begin to record; then the sitecustomize of the image, if it has one, is run."""
    import sys
    from os import path, symlink

    seen = set()

    def note(kind, text):
        if (kind, text) in seen:
            return
        seen.add((kind, text))
        letters = [c if (c.isalnum() and ord(c) < 128) or c in "_-" else "+" + hex(ord(c)) for c in text]
        try:  # noqa: SIM105 - nothing may be imported here before it is recorded
            symlink(kind + text, record + "/" + kind + "".join(letters)[-200:])
        except (OSError, ValueError):  # there already, or this process may no longer write
            pass

    def note_path():
        for entry in sys.path:
            if isinstance(entry, str) and ("entry", entry) not in seen:
                seen.add(("entry", entry))
                place = path.realpath(entry)
                if (place + "/").startswith(tree + "/"):
                    note("p", place[len(tree) + 1 :])

    for name in list(sys.modules):
        note("n", name.partition(".")[0])
    note("n", "usercustomize")
    bootstrap = sys.modules["_frozen_importlib"]
    find_spec = bootstrap._find_spec  # type: ignore[attr-defined]

    def recording(name, *arguments, **keywords):
        note("n", name.partition(".")[0])
        note_path()
        return find_spec(name, *arguments, **keywords)

    bootstrap._find_spec = recording  # type: ignore[attr-defined]
    if "importlib.util" in sys.modules:
        sys.modules["importlib.util"]._find_spec = recording  # type: ignore[attr-defined]
    here = path.dirname(path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if path.abspath(entry or ".") != here]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ImportError:
        sys.modules["sitecustomize"] = ours
