"""Faust application for `faust -A stream_app.app worker`.

The attribute `app` is created on first use, from the file that `STREAM_APP_CONFIG` names (default
`stream_app.toml`) and the environment.
"""

import os
import signal

from stream_app.config.files import (
    CONFIG_DEFAULT,
    CONFIG_VARIABLE,
    ConfigSource,
)
from stream_app.core.router import compile_router
from stream_app.errors import StreamAppError
from stream_app.worker.app import create_app
from stream_app.worker.faust_app import StreamApp


def __getattr__(name: str) -> StreamApp:
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    # Until the worker follows its file, which it then reads again if it has changed.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = os.environ.get(CONFIG_VARIABLE, CONFIG_DEFAULT)
        source = ConfigSource(config, os.environ)
        settings = source.load()
        app = create_app(settings, compile_router(settings), source)
    except StreamAppError as error:
        raise SystemExit(f"stream-app: {error}") from None
    globals()["app"] = app  # the next access finds this one
    return app
