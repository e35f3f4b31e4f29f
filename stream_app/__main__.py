"""Entry point of `stream-app` and `python -m stream_app`."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    if sys.argv[1:2] == ["worker"]:
        # SIGHUP would end the process until the worker follows its file, which is seconds away. It
        # reads the file again then if it has changed, so that nothing is missed.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from stream_app.cli.main import main as run  # noqa: PLC0415 - takes longer than all of this

    run()


if __name__ == "__main__":
    main()
