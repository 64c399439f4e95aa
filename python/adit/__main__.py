"""``python -m adit`` is the command ``adit``."""

from ._program import main

if __name__ == "__main__":
    main()
