"""The configuration of nginx as text: two templates, each of which a user can replace by a file of their own."""

import grp
import os
import pwd
from pathlib import Path

import jinja2

from bareboat.proxy import about as abouts
from bareboat.proxy import decide

_BUILT_IN = Path(__file__).with_name("templates")
MOST_WORKERS = 4


class BadTemplate(ValueError):
    """A template can't be read or rendered; says which, where and why."""


def main(site: abouts.Site, config_path: Path) -> str:
    """The frame: workers, logs, folders; includes `config_path`."""
    return _rendered(
        site.main_template,
        "main.conf.j2",
        site=config_path,
        state_dir=site.state_dir,
        user=_user(),
        workers=max(1, min(MOST_WORKERS, os.cpu_count() or 1)),
        drain_s=max(1, round(site.drain_s)),
        debug=site.debug,
    )


def server(site: abouts.Site, pod_name: str, upstream: decide.Upstream | None) -> str:
    """What is served: everything passed to `upstream`, or 502 while there is none."""
    return _rendered(
        site.site_template,
        "site.conf.j2",
        pod_name=pod_name,
        upstream=_joined(*upstream) if upstream else "",
        address=upstream[0] if upstream else "",
        port=upstream[1] if upstream else 0,
        listen=_joined(site.listen_address, site.listen_port) if site.listen_address else str(site.listen_port),
        listen_address=site.listen_address,
        listen_port=site.listen_port,
        max_body_size=site.max_body_size,
        debug=site.debug,
    )


def _rendered(own: Path | None, built_in: str, **values: object) -> str:
    path = own or _BUILT_IN / built_in
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(path.read_text()).render(**values)
    except (OSError, UnicodeDecodeError) as error:
        raise BadTemplate(f"the nginx template {path} can't be read: {error}") from None
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"the nginx template {path}, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        known = ", ".join(sorted(values))
        raise BadTemplate(f"the nginx template {path}: {error.message}; there are {known}") from None


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _user() -> str:
    """Workers of a root nginx run as nobody; for others the directive is meaningless."""
    if os.geteuid() != 0:
        return ""
    try:
        nobody = pwd.getpwnam("nobody")
        return f"{nobody.pw_name} {grp.getgrgid(nobody.pw_gid).gr_name}"
    except KeyError:
        return ""
