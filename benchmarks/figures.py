"""Write the tables and the plots from benchmarks/results.json: ``figures.py [--check]``.

With ``--check`` it writes nothing, and fails if a table or a plot is out of date.
"""

import json
import sys

import plots
import report


def wanted():
    """Return {path: text} of the documents with their tables, and of the plots."""
    return {**report.documents(), **plots.pictures(json.loads(report.RESULTS.read_text()))}


def write():
    for path, text in wanted().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def check():
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text() != text]
    if stale:
        names = ", ".join(str(path.relative_to(report.ROOT)) for path in stale)
        sys.exit(f"Not as benchmarks/results.json says: {names}. Run: python benchmarks/figures.py")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else write()
