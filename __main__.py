"""`python PATH/TO/THIS/FOLDER`: the command line from any place, also by a Python that does not look in its own."""

import sys

from mova.__main__ import main

sys.exit(main())
