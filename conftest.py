"""The package that tests import is the staged copy where ./run made one: every uid can read it, as in a service.

Some tests act as one of the parts' users, and a clone below a 0700 home would be closed to them.
"""

import os
import sys

if app := os.environ.get("MUTIRAO_APP"):
    sys.path.insert(0, app)
