"""The `bareboat` command: one sub-command per front door, and those for people."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Hire GPUs on rental clouds from Kubernetes.")


@app.callback()
def root() -> None:
    """Hire GPUs on rental clouds from Kubernetes."""


def main() -> None:
    app()
