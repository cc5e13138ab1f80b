"""Serve the built website on this machine, with its own page for what is not found.

python tools/serve.py [--port 8000] [--directory _build/html]
"""

import argparse
import functools
import http.server
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the site; 404.html for everything else, as web hosts do."""

    quiet = False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a missing page with the site's own."""
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log as usual unless told to be quiet."""
        if not self.quiet:
            super().log_message(*arguments)


def server(directory: Path, port: int = 0, *, quiet: bool = False) -> http.server.ThreadingHTTPServer:
    """A server of ``directory`` on loopback; port 0 takes a free one. Call its ``serve_forever``."""
    handler = type("Handler", (Handler,), {"quiet": quiet})
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(handler, directory=str(directory)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--directory", type=Path, default=ROOT / "_build" / "html")
    options = parser.parse_args(arguments)
    if not (options.directory / "index.html").is_file():
        parser.error(f"no website in {options.directory}: run `make site` first")
    running = server(options.directory, options.port, quiet=True)
    print(f"The course is at http://localhost:{running.server_port}/ (stop with Ctrl-C)", flush=True)
    try:
        running.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
