"""`python -m moee`: the same as the command `moee`."""

from __future__ import annotations

from moee.cli import main

if __name__ == "__main__":
    main()
