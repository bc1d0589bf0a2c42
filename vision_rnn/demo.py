"""Pages for a browser on the same machine, made with gradio: nothing is stored, and nothing leaves the machine.

Gradio is an extra, imported only here.
"""

import importlib
import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vision_rnn.cli import LOCAL_HOST
from vision_rnn.console import note, result
from vision_rnn.errors import UserError
from vision_rnn.page import PARTS, Element, element, fragment

# Limits of one upload.
MAX_FILES, MAX_BYTES = 20, 20 * 2**20
# Requests that wait while one is computed; a further one is refused.
_WAITING = 16
_SESSIONS = 100
# Seconds after which uploads that no request took are deleted; a request deletes its own at once.
_UPLOAD_SECONDS = 600

STYLE = """
.gradio-container { --text: #1c2024; --muted: #5b6570; --page: #ffffff; --card: #f4f6f8; --line: #d5dae0;
  --accent: #0b62a8; }
.dark .gradio-container, .gradio-container.dark { --text: #e6e9ed; --muted: #a2acb7; --page: #15181c; --card: #1f242a;
  --line: #3a424b; --accent: #7cbcf5; }
.gradio-container :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.problem { border-left: .25rem solid #c2570c; padding: .25rem .75rem; margin: .5rem 0; overflow-wrap: anywhere; }
.card { overflow-wrap: anywhere; }
"""


def check_gradio() -> None:
    """Check that gradio is installed, before anything is loaded.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("gradio is not installed, and the page needs it; run: pip install 'vision-rnn[demo]'")


def serve(build: Callable[[Any], Any], title: str, host: str, port: int, style: str = "", script: str = "") -> None:
    """Serve a page until the process is interrupted.

    Args:
        build: Function that makes the parts of the page, given the module gradio.
        title: Title of the page.
        host: Address to listen on.
        port: Port to listen on.
        style: Further rules of CSS.
        script: JavaScript of the page.

    Raises:
        UserError: The address cannot be listened on.
    """
    # A service manager stops a page with SIGTERM, after which uploads must be deleted too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Read by gradio when it is imported: no telemetry, and no look for a new version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="vision-rnn-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        gradio = importlib.import_module("gradio")
        with gradio.Blocks(analytics_enabled=False, title=title, delete_cache=(60, _UPLOAD_SECONDS)) as blocks:
            build(gradio)
        blocks.queue(max_size=_WAITING, default_concurrency_limit=1)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=[],
                max_file_size=MAX_BYTES,
                state_session_capacity=_SESSIONS,
                # The default theme names fonts of a server.
                theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=PARTS + STYLE + style,
                head=f"<script>{script}</script>" if script else None,
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{host}, port {port}: cannot be used ({error}); choose another --host or --port") from None
        try:
            if host != LOCAL_HOST:
                note(f"--host {host}: whoever reaches this machine can use the page")
            # Whoever reads the address may stop the page at once.
            result(f"{address.rstrip('/')} (stop with Ctrl-C)")
            threading.Event().wait()
        except KeyboardInterrupt:
            note("stopped")
        finally:
            blocks.close(verbose=False)


def take_uploads(paths: str | Sequence[str] | None) -> dict[str, bytes]:
    """Read uploaded files by name, and delete them.

    Raises:
        UserError: There are too many; they are deleted too.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str) else paths or [])]
    try:
        if len(files) > MAX_FILES:
            raise UserError(f"{len(files)} files: at most {MAX_FILES} are taken at once; drop fewer")
        contents: dict[str, bytes] = {}
        for file in files:
            name, number = file.name, 1
            while name in contents:
                number += 1
                name = f"{file.stem} ({number}){file.suffix}"
            contents[name] = file.read_bytes()
        return contents
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def problems(texts: Sequence[str]) -> str:
    """Return what went wrong as HTML, a line each."""
    return "".join(fragment(element("p", text, class_="problem", role="alert")) for text in texts)


def cards(parts: Sequence[Element]) -> str:
    """Return parts side by side as HTML."""
    return fragment(element("div", *parts, class_="cards")) if parts else ""
