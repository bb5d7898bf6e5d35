"""A server of one file on loopback, that behaves as a test tells it."""

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A loopback server that behaves as scripted: `play` holds a function for each request, the last one for all that
    follow."""

    def __init__(self):
        self.data, self.etag, self.requests, self.play = os.urandom(150_000) * 2, '"v1"', [], [lambda h: self.send(h)]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(dict(self.headers))
                self.close_connection = True
                (outer.play.pop(0) if len(outer.play) > 1 else outer.play[0])(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/cg/data.tar"
        threading.Thread(target=self.server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def send(self, handler, most=None, ranges=True, length=True, etag=True, stall=0):
        "The file, or the part of it that is requested; only the first `most` bytes of that."
        wanted, known = handler.headers.get("Range"), handler.headers.get("If-Range")
        first = int(wanted[6:-1]) if wanted and ranges and known == self.etag else 0
        if first >= len(self.data):
            return handler.send_error(416)
        handler.send_response(206 if first else 200)
        for name, value in (
            ("ETag", etag and self.etag),
            ("Content-Length", length and str(len(self.data) - first)),
            ("Content-Range", first and f"bytes {first}-{len(self.data) - 1}/{len(self.data)}"),
        ):
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        try:
            handler.wfile.write(self.data[first:][:most])
        except ConnectionError:
            pass
        time.sleep(stall)
