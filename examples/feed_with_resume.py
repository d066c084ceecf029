"""A feed that loses nothing: a page that was cut off gets what it missed, once.

Start it with ``flask --app examples/feed_with_resume wsrun``, open two tabs, cut one of
them off, post in the other, and connect the first one again.
"""

from flask import Flask, render_template_string, request

from flask_sockets import Sockets, WebSocket

PAGE = """<!doctype html><title>Feed</title>
<style>body { font: 1.1em/1.6 system-ui; max-width: 32em; margin: 3em auto }</style>
<p><button id=cut>Cut off</button> <button id=connect>Connect</button>
<b id=state></b></p>
<form id=form><input id=text autofocus> <button>Post</button></form>
<ol id=feed></ol>
<script>
  const byId = (id) => document.getElementById(id);
  let socket, position = null;  // the position of the latest entry on the page

  function connect() {
    const url = new URL("{{ url_for('feed') }}");
    if (position !== null) url.searchParams.set("since", position);
    socket = new WebSocket(url);
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.topic === undefined) {
        if (!event.recovered) byId("feed").replaceChildren();  // It begins anew.
        byId("state").textContent = "connected";
        return;
      }
      position = event.position;
      const item = document.createElement("li");
      item.textContent = event.data;
      byId("feed").append(item);
    };
    socket.onclose = () => { byId("state").textContent = "cut off"; };
  }
  byId("connect").onclick = () => { if (socket.readyState === 3) connect(); };
  byId("cut").onclick = () => socket.close();
  byId("form").onsubmit = (event) => {
    event.preventDefault();
    fetch("/post", { method: "POST", body: byId("text").value });
    byId("text").value = "";
  };
  connect();
</script>"""

app = Flask(__name__)
sockets = Sockets(app)
sockets.topic("feed", history=100, ttl=24 * 60 * 60)


@sockets.route("/feed")
def feed(ws: WebSocket) -> None:
    since = request.args.get("since")
    # What the page missed waits until it was told that it misses nothing, or that it
    # has to begin anew with the last entries there are.
    with ws.subscribe("feed", history=100, since=since, envelope=True) as subscription:
        ws.send_json({"recovered": subscription.recovered})
    ws.wait_closed()


@app.post("/post")
def post() -> tuple[str, int]:
    sockets.publish("feed", request.get_data(as_text=True))
    return "", 204


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)
