"""`python -m cadvlm` is the command `cadvlm`."""
import sys

from cadvlm.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
