"""``python -m latebloom``: the command line."""

from latebloom.cli import main

if __name__ == "__main__":
    main()
