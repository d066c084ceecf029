"""Broadcasts to 'ws.handler.server.clients', as the App Engine sample does."""

from flask import Flask, abort, request

from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)


@sockets.route("/chat")
def chat_socket(ws):
    while not ws.closed:
        message = ws.receive()
        if message is None:  # message is "None" if the client has closed.
            continue
        # Send the message to all clients connected to this webserver process.
        clients = ws.handler.server.clients.values()
        for client in clients:
            client.ws.send(message)


@sockets.route("/others")
def tell_others(ws):
    """Leaves out itself, in the ways that apps do it."""
    for message in ws:
        for client in ws.handler.server.clients.values():
            if client.ws is not ws and client.ws != ws:
                client.ws.send(message)


@sockets.route("/first-line")
def first_line(ws):
    mine = ws.handler.active_client
    clients = ws.handler.server.clients
    listed = [c for c in clients.values() if c.ws is ws]
    facts = [ws.accepted, mine.ws is ws, mine in clients.values(), len(listed)]
    if "refuse" in request.args:
        abort(401, repr(facts))
    ws.send(repr(facts))
    ws.receive()


@sockets.route("/closing")
def closing(ws):
    """Goes on for a while after its client has closed."""
    for _ in ws:
        pass
    ws.handler.active_client.ws.connection.transport.sleep(0.5)


@app.get("/count")
def count():
    """How many there are, as the last of these handlers saw it."""
    servers = app.extensions.get("seen_servers", [])
    return {"clients": sum(len(server.clients) for server in servers)}


@app.before_request
def remember_server():
    ws = request.environ.get("wsgi.websocket")
    if ws is not None:
        servers = app.extensions.setdefault("seen_servers", [])
        if ws.handler.server not in servers:
            servers.append(ws.handler.server)
