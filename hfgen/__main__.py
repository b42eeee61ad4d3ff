"""`python -m hfgen` is the command `hfgen`."""

import sys

from hfgen.cli import main

sys.exit(main())
