"""How published apps use Flask-Sockets, each in a few lines."""

import gevent
import gevent.queue
from flask import Blueprint, Flask, g, request
from geventwebsocket import websocket
from geventwebsocket.exceptions import WebSocketError
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_sockets import Sockets

app = Flask(__name__)
app.debug = True
sockets = Sockets(app)

#: What handlers have to say about their end.
ENDED = {}


@app.get("/ended")
def ended():
    return {"what": ENDED.get(request.args["key"])}


def end(what):
    ENDED[request.args["key"]] = what


# An outbox that registers clients and never receives


class Outbox:
    def __init__(self):
        self.clients = []
        self.queue = gevent.queue.Queue()

    def register(self, client):
        self.clients.append(client)

    def send(self, client, data):
        try:
            client.send(data)
        except Exception:
            self.clients.remove(client)

    def run(self):
        for data in self.queue:
            for client in list(self.clients):
                gevent.spawn(self.send, client, data)

    def start(self):
        gevent.spawn(self.run)


outbox = Outbox()
outbox.start()


@sockets.route("/submit")
def submit(ws):
    while not ws.closed:
        # Sleep to prevent constant context switches.
        gevent.sleep(0.1)
        message = ws.receive()
        if message:
            outbox.queue.put(message)


@sockets.route("/receive")
def receive(ws):
    outbox.register(ws)
    while not ws.closed:
        gevent.sleep(0.1)
    end(f"closed with {ws.close_code}")


@app.get("/members")
def members():
    return {"members": len(outbox.clients)}


# Reading in a greenlet, sending from a queue


def read_ws(ws, queue):
    while not ws.closed:
        message = ws.receive()
        if message is None:
            break
        queue.put(message)


@sockets.route("/feed")
def feed(ws):
    queue = gevent.queue.Queue()
    reader = gevent.spawn(read_ws, ws, queue)
    try:
        while True:
            message = queue.get()
            if message == "enough":
                break
            ws.send(f"fed {message}")
    finally:
        gevent.kill(reader)
    reader.join()
    end("reader " + ("dead" if reader.dead else "alive"))


# Loops


@sockets.route("/continue")
def loop_with_continue(ws):
    while not ws.closed:
        message = ws.receive()
        if message is None:
            continue
        ws.send(message.upper())
    end("left the loop")


@sockets.route("/except")
def loop_with_except(ws):
    try:
        while True:
            message = ws.receive()
            ws.send(message or "nothing")
    except WebSocketError as error:
        end(type(error).__name__)


# A type hint


@sockets.route("/hint")
def hint(ws: websocket.WebSocket):
    ws.send(str(isinstance(ws, websocket.WebSocket)))
    ws.send(ws.path)


# What gevent-websocket's server knows


@sockets.route("/everyone")
def everyone(ws):
    for message in ws:
        for client in list(ws.handler.server.clients.values()):
            client.ws.send(f"{client.address[0]} {message}")


@app.get("/everyone")
def count_everyone():
    handler = request.environ.get("flask_sockets.handler")
    return {"clients": len(getattr(handler.server, "clients", {}))} if handler else {}


# A member that died

room = set()


@sockets.route("/room")
def join(ws):
    room.add(ws)
    ws.send("joined")
    # Leaves without being taken from the room.


@sockets.route("/room/careless")
def tell_room(ws):
    ws.receive()
    for member in list(room):
        member.send("hello")


@sockets.route("/room/careful")
def tell_room_carefully(ws):
    room.add(ws)
    for message in ws:
        for member in list(room):
            try:
                member.send(message)
            except WebSocketError:
                room.discard(member)
    room.discard(ws)


# Two blueprints of one name

http_chat = Blueprint("chat", __name__)
ws_chat = Blueprint("chat", __name__)


@http_chat.before_request
def before_http():
    g.hooks = [*g.get("hooks", []), "http"]


@ws_chat.before_request
def before_ws():
    g.hooks = [*g.get("hooks", []), "ws"]


@http_chat.route("/hooks")
def http_hooks():
    return {"hooks": g.hooks}


@ws_chat.route("/hooks")
def ws_hooks(ws):
    ws.send(",".join(g.hooks))


app.register_blueprint(http_chat, url_prefix="/chat")
sockets.register_blueprint(ws_chat, url_prefix="/chat")


# An error in an app whose code sets 'app.debug'


@sockets.route("/broken")
def broken(ws):
    ws.receive()
    raise RuntimeError("expected in debug mode")


# ProxyFix, installed before and after


def behind_proxy(when):
    proxied = Flask(f"proxied_{when}")
    if when == "before":
        proxied.wsgi_app = ProxyFix(proxied.wsgi_app, x_host=1, x_proto=1)
    proxied_sockets = Sockets(proxied)
    if when == "after":
        proxied.wsgi_app = ProxyFix(proxied.wsgi_app, x_host=1, x_proto=1)

    @proxied_sockets.route("/url")
    def url(ws):
        ws.send(request.url)

    return proxied


app.wsgi_app = DispatcherMiddleware(
    app.wsgi_app,
    {"/before": behind_proxy("before"), "/after": behind_proxy("after")},
)


def make(name):
    """An app factory."""
    made = Flask(name)

    made_sockets = Sockets()

    @made_sockets.route("/name")
    def tell_name(ws):
        ws.send(made.name)

    made_sockets.init_app(made)
    return made
