"""`accelerate launch scripts/train.py RECIPE ...`: the arguments of `hfgen train`."""

import sys

from hfgen.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
