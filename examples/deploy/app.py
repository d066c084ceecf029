"""An app to deploy: everybody sees what everybody says, whichever process serves whom.

The files beside this one serve it in production. Each of them says how it is used.
"""

import os

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_sockets import Sockets, WebSocket

app = Flask(__name__)
# FLASK_SOCKETS_BROKER is the URL of Redis, which brings messages to all processes.
app.config.from_prefixed_env()
# There is exactly one proxy, which says who the client is and how it came.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]
sockets = Sockets(app)

PAGE = """<!doctype html>
<title>Deployed</title>
<input id=text placeholder="Say something"> <span id=process></span>
<ul id=list></ul>
<script>
  const list = document.getElementById("list");
  let socket, retries = 0;
  function connect() {
    socket = new WebSocket("/chat");
    socket.onopen = () => { retries = 0; };
    socket.onmessage = event => {
      const { process, said } = JSON.parse(event.data);
      if (process) document.getElementById("process").textContent = process;
      else list.appendChild(document.createElement("li")).textContent = said;
    };
    // A deploy closes the connection. Not all clients come back in the same instant.
    socket.onclose = () =>
      setTimeout(connect, Math.random() * 1000 * 2 ** Math.min(retries++, 6));
  }
  document.getElementById("text").onchange = event => {
    socket.send(event.target.value);
    event.target.value = "";
  };
  connect();
</script>
"""


@app.get("/")
def index() -> str:
    return PAGE


@app.get("/health")
def health() -> str:
    return "ready"


@sockets.route("/chat")
def chat(ws: WebSocket) -> None:
    ws.send_json({"process": os.getpid()})
    ws.subscribe("chat")
    for message in ws:
        sockets.publish_json("chat", {"said": message})
