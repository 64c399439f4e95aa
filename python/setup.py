"""For a pip that knows setup.py only: too old to build this package, as is the Python that it mostly came with."""

import sys

if sys.version_info < (3, 9):
    sys.exit("adit: Python %d.%d is too old (it needs Python >=3.9)" % sys.version_info[:2])
sys.exit("adit: this pip is too old, or not in use (pip install --upgrade pip, then: pip install FOLDER)")
