"""The command line. Each command is imported when it is called, so that `--help` is quick and a run small.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.diagnosing import add_commands
from agent.cli.exit_status import DONE, FAILED, INTERRUPTED
from agent.on_demand import load_on_demand

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_CONFIG = Path("/etc/outstation/outstation.toml")
_LEVELS = ("debug", "info", "warning", "error")


class _Formatter(argparse.HelpFormatter):
    """Argparse's own, which imports `shutil` with three ways of compression for the width of the terminal, unless it is given."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or 80
        except ValueError:
            try:
                columns = os.get_terminal_size(1).columns or 80
            except OSError:
                columns = 80
        super().__init__(prog, width=columns - 2)


class _Parser(argparse.ArgumentParser):
    """One whose help is laid out by `_Formatter`, and that of its commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=_Formatter)


class VersionAction(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and exit."""
        from agent.version import version

        print(f"outstation {version()}")
        parser.exit(0)


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default: {DEFAULT_CONFIG})",
    )


def _buffer_commands(buffer: argparse.ArgumentParser) -> None:
    """`outstation buffer ...`."""
    actions = buffer.add_subparsers(dest="action", required=True, metavar="COMMAND")
    texts = {
        "ls": "list the segments, and what was set aside",
        "verify": "check every byte; say what is damaged, what it costs and what to do",
        "repair": "keep every intact record of damaged files; the agent must be stopped",
        "export": "write readings out, as JSON lines or CSV",
        "stats": "say how much there is, since when, how fast it comes, and who still waits for it",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "path",
            nargs="?",
            type=Path,
            metavar="DIR",
            help="the buffer's directory (default: as configured)",
        )
        _config_argument(action)
        if name != "export":
            action.add_argument("--json", action="store_true", help="print the report as JSON")
            continue
        action.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default: jsonl")
        action.add_argument("--source", metavar="ID", help="of this source only")
        action.add_argument(
            "--since", metavar="TIME", help="measured then or later: 2026-07-01T12:00:00Z, or '2 days' ago"
        )
        action.add_argument("--until", metavar="TIME", help="measured before")
        action.add_argument(
            "--undelivered", action="store_true", help="only what not every upstream has acknowledged"
        )
        action.add_argument("--output", "-o", type=Path, metavar="FILE", help="a new file (default: stdout)")


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = commands.add_parser("init", help="ask a few questions, and write a first configuration")
    _config_argument(init)
    init.add_argument(
        "--time", default="5 s", metavar="TIME", help="how long to listen at ports (default: 5 s)"
    )
    init.add_argument(
        "--yes", action="store_true", help="ask nothing: take the options, and else the defaults"
    )
    given = init.add_argument_group("with --yes")
    given.add_argument("--device-id", metavar="ID", help="default: derived from the machine")
    given.add_argument(
        "--port", action="append", metavar="PORT", help="a serial port to collect from; may be repeated"
    )
    given.add_argument(
        "--mqtt", action="append", metavar="URL", help="a broker to collect from; may be repeated"
    )
    given.add_argument(
        "--topic", action="append", metavar="FILTER", help="there (default: sensors/#); may be repeated"
    )
    given.add_argument("--upstream", metavar="URL", help="where readings go (default: nowhere yet)")
    given.add_argument(
        "--ack", choices=("receiver", "broker", "server"), help="whose acknowledgement counts there"
    )
    given.add_argument("--username", metavar="NAME", help="there")
    given.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password for it")
    given.add_argument("--buffer", metavar="DIR", help="the folder of the buffer")
    given.add_argument("--quota", metavar="SIZE", help="how much it may take, such as '2 GB'")


def _add_discover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    discover = commands.add_parser(
        "discover", help="look around for sensors, and propose a configuration that collects them"
    )
    discover.add_argument(
        "--mqtt",
        action="append",
        metavar="URL",
        help="a broker to listen at; may be repeated (default: mqtt://localhost:1883)",
    )
    discover.add_argument("--no-mqtt", action="store_true", help="listen at no broker")
    discover.add_argument("--username", metavar="NAME", help="at the brokers")
    discover.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password for it")
    discover.add_argument(
        "--serial",
        action="append",
        metavar="PORT",
        help="a serial port to listen at; may be repeated (default: all that nobody uses)",
    )
    discover.add_argument("--no-serial", action="store_true", help="listen at no serial port")
    discover.add_argument("--adapter", default="hci0", metavar="NAME", help="of Bluetooth (default: hci0)")
    discover.add_argument("--no-ble", action="store_true", help="do not listen to the air")
    discover.add_argument("--time", default="20 s", metavar="TIME", help="for how long (default: 20 s)")
    discover.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write the configuration to a new file instead of printing it",
    )


def _add_self_test(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    self_test = commands.add_parser(
        "self-test", help="try this release on a copy of the buffer, as an upgrade does; nothing is sent"
    )
    self_test.set_defaults(module="self_test")
    _config_argument(self_test)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo", help="see it work: a cut, a kill, and nothing lost (needs no hardware)"
    )
    demo.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep what the demo makes (default: thrown away)"
    )
    demo.add_argument("--plain", action="store_true", help="print lines instead of a live view")


def _add_receive(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    receive = commands.add_parser("receive", help="be the cloud end: take batches, keep each reading once")
    receive.add_argument(
        "--from",
        dest="sources",
        action="append",
        metavar="URL",
        help="http://HOST:PORT to listen on, mqtt[s]://[USER@]HOST[:PORT] to subscribe at, or"
        " nats://[USER@]HOST[:PORT][,HOST...] (tls:// encrypted) to take from; may be repeated"
        " (default: http://127.0.0.1:8080)",
    )
    receive.add_argument(
        "--into",
        required=True,
        metavar="URL",
        help="sqlite:///FILE or postgresql://[USER@]HOST[:PORT]/DATABASE",
    )
    receive.add_argument(
        "--client-id", metavar="ID", help="the session at the broker (default: outstation-receiver)"
    )
    receive.add_argument(
        "--share", metavar="NAME", help="share the work with all receivers that say the same name"
    )
    receive.add_argument(
        "--replicas",
        type=int,
        default=1,
        choices=(1, 3, 5),
        help="of the JetStream stream, when it has to be made (default: 1; in a cluster 3)",
    )
    receive.add_argument("--username", metavar="NAME", help="at the broker")
    receive.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password for it")
    receive.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="authorities to trust for mqtts:// and tls://"
    )
    receive.add_argument("--token-file", type=Path, metavar="FILE", help="the token HTTP senders must show")
    receive.add_argument("--tls-cert", type=Path, metavar="FILE", help="the certificate for https://")
    receive.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, if not in the same file")
    receive.add_argument("--metrics", metavar="HOST:PORT", help="where Prometheus may ask for /metrics")
    receive.add_argument("--log-level", choices=_LEVELS, default="info")


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = commands.add_parser(
        "simulate", help="be a fleet: many virtual devices that deliver to a broker or server"
    )
    simulate.add_argument("--devices", "-n", type=int, default=100, metavar="N", help="default: 100")
    simulate.add_argument(
        "--to",
        required=True,
        metavar="URL",
        help="as url in [[upstream]]: mqtt://HOST:PORT, http://HOST:PORT/...",
    )
    simulate.add_argument("--ack", metavar="WHOSE", help="as ack in [[upstream]] (default: as there)")
    simulate.add_argument(
        "--rate", type=float, default=1.0, metavar="HZ", help="readings a second and device (default: 1)"
    )
    simulate.add_argument(
        "--ramp",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds in which they are switched on (default: 10)",
    )
    simulate.add_argument("--time", metavar="TIME", help='end by itself, such as after "10 min"')
    simulate.add_argument(
        "--folder", type=Path, metavar="DIR", help="for their buffers, which stay (default: thrown away)"
    )
    simulate.add_argument("--username", metavar="NAME", help="at the broker, of all of them")
    simulate.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password for it")
    simulate.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust")
    simulate.add_argument(
        "--no-tls",
        action="store_true",
        help="as tls = false: unencrypted beyond loopback, where that is safe",
    )
    simulate.add_argument("--json", action="store_true", help="print what they do as JSON, a line a second")
    simulate.add_argument("--log-level", choices=_LEVELS, default="error")


def _add_gaps(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    gaps = commands.add_parser("gaps", help="say which readings a receiver's database misses, and why")
    gaps.add_argument("database", metavar="URL", help="as for receive --into")
    gaps.add_argument("--device", metavar="ID", help="of this device only")
    gaps.add_argument("--json", action="store_true", help="print the report as JSON")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="outstation",
        description="Collects readings, keeps each one safe on the card, and delivers it once.",
    )
    parser.add_argument("--version", action=VersionAction, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="collect, keep and deliver until stopped")
    _config_argument(run)
    run.add_argument("--log-level", choices=_LEVELS, help="instead of agent.log_level")

    check = commands.add_parser("check", help="say whether a configuration is right, and start nothing")
    _config_argument(check)

    _add_init(commands)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration, for editors")
    schema.add_argument("--output", "-o", type=Path, metavar="FILE", help="write it there (default: stdout)")

    status = commands.add_parser(
        "status", help="say how the running agent does, what is not delivered and why"
    )
    _config_argument(status)
    status.add_argument("--json", action="store_true", help="print the report as JSON")
    status.add_argument(
        "--where",
        action="store_true",
        help="ask nothing; print where programs can ask: the socket while the buffer does not open, then the other",
    )

    clock = commands.add_parser("clock", help="say what the running agent knows about time, and how well")
    _config_argument(clock)
    clock.add_argument("--json", action="store_true", help="print it as JSON")

    _add_discover(commands)

    read = commands.add_parser("read", help="print what one source says, and store nothing")
    read.add_argument("source", metavar="SOURCE", help="the id of the source")
    _config_argument(read)
    read.add_argument("--count", "-n", type=int, metavar="N", help="stop after N frames or messages")

    drivers = commands.add_parser(
        "drivers", help="list the drivers, framings and codecs, each with an example"
    )
    drivers.add_argument("name", nargs="?", metavar="NAME", help="only those with this name")
    add_commands(commands, _config_argument)
    _buffer_commands(commands.add_parser("buffer", help="look into the buffer, check, repair and export it"))

    record = commands.add_parser("record", help="write down what a port says, with its timing, until Ctrl-C")
    record.add_argument(
        "source",
        metavar="SOURCE|PORT",
        help="the id of a source, or a port: /dev/ttyUSB0, socket://HOST:PORT",
    )
    record.add_argument("--output", "-o", type=Path, required=True, metavar="FILE", help="a new file")
    _config_argument(record)
    record.add_argument("--baudrate", type=int, metavar="N", help="of a PORT (default: 115200)")
    record.add_argument("--bytesize", type=int, metavar="N", help="of a PORT (default: 8)")
    record.add_argument("--parity", help="of a PORT (default: none)")
    record.add_argument("--stopbits", type=int, metavar="N", help="of a PORT (default: 1)")
    record.add_argument("--duration", metavar="TIME", help='end by itself, such as after "10 min"')

    play = commands.add_parser("play", help="be the port of a capture: a pseudo-terminal that says the same")
    play.add_argument("capture", type=Path, metavar="FILE", help="what `record` has written")
    play.add_argument(
        "--speed", default="1", metavar="N", help="so many times as fast, or max: as fast as it is read"
    )
    play.add_argument("--link", type=Path, metavar="PATH", help="a name for the port: a symbolic link")

    _add_receive(commands)
    _add_gaps(commands)
    _add_simulate(commands)

    _add_self_test(commands)
    _add_demo(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "run":
        # Until it has taken over: whoever stops it while it loads has stopped it in order.
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(DONE))
        load_on_demand()
    command = import_module(f"agent.cli.{getattr(arguments, 'module', arguments.command)}")
    try:
        status: int = command.main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`outstation status | head`); do not complain about it at exit.
        sys.stdout = None
        return FAILED
    return status
