"""`python -m meshd` and the `meshd` command."""

from meshd.cli.app import main

if __name__ == "__main__":
    main()
