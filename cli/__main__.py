"""`python -m mcc.cli` is the command `mcc`."""
import sys

from . import main

sys.exit(main())
