"""Tokens: who has a JSON Web Token is let in for as long as it lasts, with
Flask-JWT-Extended.

A page can give a WebSocket no header, but it can offer subprotocols, and the token is
one of them. It is in no URL, and so in no log. Start it with
``flask --app examples/tokens wsrun --debug``.
"""

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    decode_token,
    get_jwt_identity,
    verify_jwt_in_request,
)
from jwt import PyJWTError

from flask_sockets import Sockets, WebSocket

PAGE = """<!doctype html><title>Tokens</title>
<style>body { font: 1.1em/1.6 system-ui; max-width: 32em; margin: 3em auto }</style>
<form id=login>I am <input name=user required autofocus></form>
<p id=state>Nobody is here.
<p><button id=renew>Renew</button> <button id=logout>Log out everywhere</button>
<script>
  let token, socket;
  const show = text => document.getElementById("state").textContent = text;
  const post = (url, body) => fetch(url, {
    method: "POST", body, headers: token ? { Authorization: `Bearer ${token}` } : {},
  }).then(response => response.text());
  document.getElementById("login").onsubmit = async event => {
    event.preventDefault();
    token = undefined;
    token = await post("/login", new FormData(event.target));
    socket = new WebSocket(`ws://${location.host}/clock`, ["clock", `token.${token}`]);
    socket.onmessage = ({ data }) => show(data);
    socket.onclose = ({ reason }) => show(`Closed: ${reason}`);
  };
  document.getElementById("renew").onclick = async () =>
    socket.send(token = await post("/renew"));
  document.getElementById("logout").onclick = () => post("/logout");
</script>"""

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = "change me, and make it longer than 32 bytes"
app.config.from_prefixed_env()  # FLASK_JWT_ACCESS_TOKEN_EXPIRES=60 for a minute
jwt = JWTManager(app)
sockets = Sockets(app)


def stay(ws: WebSocket, token: str) -> str:
    """Let the client stay until the token expires, and say who that is."""
    try:
        claims = decode_token(token)
    except PyJWTError:
        abort(401)
    ws.close_at(claims["exp"], 4001, "Your token has expired.")
    return str(claims["sub"])


@sockets.route("/clock", subprotocols="clock")
def clock(ws: WebSocket) -> None:
    offers = [offer.strip() for offer in (ws.protocol or "").split(",")]
    tokens = [offer[6:] for offer in offers if offer.startswith("token.")]
    user = stay(ws, tokens[0] if tokens else abort(401))
    ws.subscribe(f"user/{user}")
    ws.send(f"Hello {user}.")
    for token in ws:
        if stay(ws, str(token)) != user:
            abort(403)
        ws.send("You may stay a little longer.")


@app.get("/")
def index() -> str:
    return PAGE


@app.post("/login")
def login() -> str:
    return str(create_access_token(request.form["user"]))


@app.post("/renew")
def renew() -> str:
    verify_jwt_in_request()
    return str(create_access_token(get_jwt_identity()))


@app.post("/logout")
def logout() -> ResponseReturnValue:
    verify_jwt_in_request()
    sockets.disconnect(f"user/{get_jwt_identity()}", 4001, "You are logged out.")
    return "", 204
