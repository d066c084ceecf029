"""Serves an app with gevent's WSGI server: 'python serve.py KIND MODULE:APP'.

The kind is 'patched' or 'unpatched' for the handler of Flask-Sockets, 'stock' for the
one of gevent-websocket, 'plain' for none, 'stopping' for a server that stops in order
when it gets SIGTERM. '--certfile FILE --keyfile FILE' may follow.
"""

import sys

kind, spec, *tls = sys.argv[1:]

if kind != "unpatched":
    from gevent import monkey

    monkey.patch_all()

import importlib  # noqa: E402
import signal  # noqa: E402

import gevent  # noqa: E402
from gevent.pool import Pool  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402


def main() -> None:
    module_name, _, name = spec.partition(":")
    app = getattr(importlib.import_module(module_name), name or "app")
    options = {
        name.strip("-"): path for name, path in zip(tls[::2], tls[1::2], strict=True)
    }
    if tls:
        options["do_handshake_on_connect"] = False
    if kind == "stock":
        from geventwebsocket.handler import WebSocketHandler as StockHandler

        options["handler_class"] = StockHandler
    elif kind != "plain":
        from flask_sockets import WebSocketHandler

        options["handler_class"] = WebSocketHandler
    if kind == "stopping":
        options["spawn"] = Pool()
    server = WSGIServer(("127.0.0.1", 0), app, **options)
    server.start()
    if kind == "stopping":
        gevent.signal_handler(signal.SIGTERM, server.stop)
    scheme = "https" if tls else "http"
    print(f"Running on {scheme}://127.0.0.1:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
