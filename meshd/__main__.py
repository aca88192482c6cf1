"""`python -m meshd` and the `meshd` command."""

from meshd import loaded  # noqa: F401 - first, because it looks at the clock
from meshd.cli.app import main

if __name__ == "__main__":
    main()
