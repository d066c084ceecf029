"""Notifications: all tabs of a user hear what happens, wherever it happens.

Start it with ``flask --app examples/notifications wsrun --debug``, log in in two tabs,
and then: ``curl -d text="Your order has shipped." http://127.0.0.1:5000/notify/ada``
"""

from flask import Flask, abort, redirect, render_template_string, request, session
from flask.typing import ResponseReturnValue

from flask_sockets import Sockets, WebSocket

PAGE = """<!doctype html><title>Notifications</title>
<style>body { font: 1.1em/1.6 system-ui; max-width: 32em; margin: 3em auto }</style>
{% if not session.user %}
<form method=post action=/login>I am <input name=user required autofocus></form>
{% else %}
<form method=post action=/logout>{{ session.user }} <button>Log out</button></form>
<ul id=list></ul>
<script>
  const socket = new WebSocket("{{ url_for('notifications') }}");
  socket.onmessage = ({ data }) => {
    const item = document.createElement("li");
    item.textContent = data;
    document.getElementById("list").append(item);
  };
  socket.onclose = ({ code, reason }) => {
    if (code === 4001) document.body.textContent = reason;
  };
</script>
{% endif %}"""

app = Flask(__name__)
app.secret_key = "change me"
sockets = Sockets(app)


@sockets.topic("user/<name>")
def may_subscribe(name: str) -> bool:
    return session.get("user") == name


@sockets.route("/notifications")
def notifications(ws: WebSocket) -> None:
    ws.subscribe(f"user/{session.get('user') or abort(401)}")
    ws.wait_closed()


@app.post("/notify/<name>")
def notify(name: str) -> ResponseReturnValue:
    sockets.publish(f"user/{name}", request.form["text"])
    return "", 204


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


@app.post("/login")
def login() -> ResponseReturnValue:
    session["user"] = request.form["user"]
    return redirect("/")


@app.post("/logout")
def logout() -> ResponseReturnValue:
    if name := session.pop("user", None):
        sockets.disconnect(f"user/{name}", 4001, "You are logged out.")
    return redirect("/")
