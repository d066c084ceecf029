"""Flask-Sock on gevent's pywsgi."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from flask import Flask  # noqa: E402
from flask_sock import Sock  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": 16 * 1024 * 1024}
sock = Sock(app)


@sock.route("/")
def echo(ws):
    while True:
        ws.send(ws.receive())


WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
