"""The `bareboat` command: one sub-command per front door, and those for people."""

import typer

from bareboat.cli import node, offers, sandbox, simulate

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Hire GPUs on rental clouds from Kubernetes.")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(simulate.app, name="simulate")
app.command("node")(node.command)
app.command("offers")(offers.command)


@app.callback()
def root() -> None:
    """Hire GPUs on rental clouds from Kubernetes."""


def main() -> None:
    app()
