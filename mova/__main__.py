"""Command line: python -m mova generate | enhance | convert | download | info | tiny | train."""

import _thread
import argparse
import io
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from .arguments import Command, Parser, typed
from .commands import enhance, generate, model_files, small, train
from .errors import MovaError, first_line, install_command, memory_is_full
from .files import reason
from .shorten import short


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What the user did wrong is told in one sentence."""
    for stream in (sys.stdout, sys.stderr):  # a Windows console may lack the letters of a Chinese prompt
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse_args(train.joined(list(sys.argv[1:] if arguments is None else arguments)))
    signal.signal(signal.SIGTERM, interrupt)
    sys.unraisablehook = interrupt_again
    try:
        options.run(options)
    except MovaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError) as error:
        print(f"error: {fault_of_the_machine(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("mova"):
            raise
        package = {"PIL": "pillow"}.get(error.name, error.name)
        print(f"error: this needs {package}; run {install_command(package)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; {getattr(options, 'stopped', 'nothing was written.')}", file=sys.stderr)
        return 130
    return 0


def interrupt(*_: object) -> None:
    """A polite kill is treated as Ctrl-C: what is half done gets cleaned up."""
    raise KeyboardInterrupt


def interrupt_again(unraisable: Any) -> None:
    """Ctrl-C that came while Python cleared an object away, where no error gets out: once more, in a moment."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def fault_of_the_machine(error: Exception) -> str:
    """What the system refuses where nobody expected it, in one sentence."""
    if memory_is_full(error):
        return f"The memory is full ({first_line(error)}); close other programs."
    name = getattr(error, "filename", None)
    where = f"{short(str(name))} cannot be used ({reason(error)})" if name else reason(error)
    return f"{where}; check the path, its permissions and the room on the disk."


def parser() -> argparse.ArgumentParser:
    root = Parser(prog=typed(), description="MOVA: video and sound together.")
    commands = root.add_subparsers(dest="command", required=True, parser_class=Command)
    for command in (generate, enhance, model_files, train, small):
        command.add_to(commands)
    return root


if __name__ == "__main__":
    sys.exit(main())
