"""`python -m finresilience` is the command `finresilience`."""

from finresilience.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
