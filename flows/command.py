"""The entry point of the `dealrec` command: names the extra to install where only the library is there."""

import importlib.util
import sys

NEEDS = ("prefect", "mlflow", "typer", "rich", "matplotlib")
"""Packages of the extra `pipeline` that the command needs; matplotlib draws the report that ends every night, and the plots of a study."""


def main() -> None:
    """Runs the command line, or ends with one line and exit code 1 where the extra `pipeline` is not installed."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        sys.exit(
            f"error: the command dealrec needs {', '.join(absent)}, which the library alone does not install; "
            "run pip install 'dealrec[pipeline]'"
        )
    from flows.cli import main as command

    command()
