"""What pip calls to build the package."""

import sys

if sys.version_info >= (3, 9):
    from .build import *
else:
    from .too_old import *
