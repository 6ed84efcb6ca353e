"""The `bareboat` command: one sub-command per front door, and those for people. Only the one asked for is loaded."""

import importlib
from typing import Any

import typer
import typer.core

HELP = "Hire GPUs on rental clouds from Kubernetes."

COMMANDS = {
    "bans": ("bans", "Show the hosts that proxy pods have banned; lift a ban."),
    "costs": ("costs", "Show what pods have cost so far, and what everything costs an hour."),
    "demo": ("demo", "A GPU pod from apply to ledger, on this machine, for nothing."),
    "doctor": ("doctor", "Look at what is in the way of renting, and say what to do."),
    "instances": ("instances", "Show what is rented for this cluster now."),
    "keys": ("keys", "Show or rotate the ssh key by which rented machines are reached."),
    "node": ("node", "Run the virtual node: pods scheduled to it run on rented machines."),
    "offers": ("offers", "Show what could be rented now, best first, and what was left out."),
    "offload": ("offload", "Send Jobs that wait too long to rented machines, and run them there."),
    "provision": ("provision", "Serve HTTP: an image and an ssh key in, a Pod and a NodePort Service out."),
    "proxy": ("proxy", "Keep one Vast.ai instance behind nginx: the container of a StatefulSet's pod."),
    "sandbox": ("sandbox", "A real Kubernetes control plane on this machine, without containers."),
    "simulate": ("simulate", "Simulated clouds: the real API, real processes, no money."),
    "sweep": ("sweep", "Show rented instances whose pod is gone; end them with --yes."),
}
"""Name → (module in this folder, help). A module has `app` (a group) or `command` (a function)."""


class Lazy(typer.core.TyperGroup):
    """Knows the names; imports a command's module when the command is run or explained."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bareboat.cli.{COMMANDS[cmd_name][0]}")
        return _command(cmd_name, module)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """From the table alone, so that help is instant."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


def _command(name: str, module: Any) -> Any:
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(module.command)
    command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(cls=Lazy, no_args_is_help=True, add_completion=False, help=HELP, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Hire GPUs on rental clouds from Kubernetes."""


def main() -> None:
    app()
