"""What is attacked. Its config is in environment variables that begin with TARGET."""

from __future__ import annotations

import signal
import threading
import time
import typing as t

from flask import Flask, Response, g, jsonify, request

from flask_sockets import ConnectionClosed, Sockets, WebSocket

app = Flask(__name__)
app.config.from_prefixed_env("TARGET")
sockets = Sockets(app)

#: The names of the clients whose handlers are running.
OPEN: set[str] = set()
#: Those that a broadcast goes to.
MEMBERS: set[WebSocket] = set()
#: How many messages the thread of "/os-thread" has sent.
PROGRESS = [0]
#: What the handler of "/watched" has received, and then "end".
RECEIVED: list[str] = []
#: How often the app's after_request function ran for "/bad-accept".
AFTER = [0]


@app.before_request
def remember() -> None:
    if "name" in request.args:
        g.name = request.args["name"]
        OPEN.add(g.name)


@app.teardown_request
def forget(error: BaseException | None) -> None:
    if "name" in g:
        OPEN.discard(g.name)


@app.get("/open")
def list_open() -> t.Any:
    return jsonify(sorted(OPEN))


@app.get("/")
def index() -> str:
    return "Hello World!"


@sockets.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@sockets.route("/swallow")
def swallow(ws: WebSocket) -> None:
    """Receives, and answers each message with its size."""
    for message in ws:
        size = len(message)
        del message  # Not the handler is to keep it in memory.
        ws.send(str(size))


@sockets.route("/work")
def work(ws: WebSocket) -> None:
    """Keeps the processor busy for so many seconds with each message."""
    seconds = float(request.args["seconds"])
    for message in ws:
        busy(seconds)
        if "answer" in request.args:
            ws.send(message)


def busy(seconds: float) -> None:
    # Its own time, whatever else runs on this machine.
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@sockets.route("/ignore")
def ignore(ws: WebSocket) -> None:
    """Never receives."""
    ws.send("welcome")
    while not ws.closed:
        time.sleep(0.05)


@sockets.route("/stream")
def stream(ws: WebSocket) -> None:
    """Sends without end, and never receives."""
    payload = bytes(int(request.args["size"]))
    while True:
        ws.send(payload)


@sockets.route("/listen")
def listen(ws: WebSocket) -> None:
    """Gets what others broadcast."""
    MEMBERS.add(ws)
    ws.send("welcome")
    try:
        for _ in ws:
            pass
    finally:
        MEMBERS.discard(ws)


@sockets.route("/broadcast")
def broadcast(ws: WebSocket) -> None:
    """Sends each message to all who listen, one after the other, as apps do."""
    for message in ws:
        for member in list(MEMBERS):
            try:
                member.send(message)
            except ConnectionClosed:
                MEMBERS.discard(member)
        ws.send("done")


# What handlers do that may go wrong


@sockets.route("/os-thread")
def send_from_thread(ws: WebSocket) -> None:
    """Sends from a thread of the operating system, also where gevent has patched."""
    import gevent

    ws.send("welcome")
    payload = bytes(int(request.args["size"]))
    count = int(request.args["count"])

    def send_all() -> None:
        for number in range(count):
            ws.send(str(number).encode().ljust(10) + payload)
            PROGRESS[0] += 1

    try:
        gevent.get_hub().threadpool.apply(send_all)
    except Exception as error:
        ws.send(f"{type(error).__name__}: {error}")
    else:
        ws.send("done")


@app.get("/progress")
def progress() -> t.Any:
    return jsonify(PROGRESS[0])


class Interrupted(Exception):
    """Comes from outside, as the timeout of a worker does."""


@sockets.route("/interrupted")
def interrupted(ws: WebSocket) -> None:
    """Something interrupts each of its sends, at another moment each time."""

    def interrupt(number: int, stack: t.Any) -> None:
        raise Interrupted

    signal.signal(signal.SIGALRM, interrupt)
    ws.accept()
    filler = "x" * int(request.args["size"])
    for number in range(int(request.args["count"])):
        message = f"{number}:{filler}"
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001 * (5 + number))
            ws.send(message)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            pass
        except ConnectionClosed:
            break
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


@sockets.route("/watched")
def watched(ws: WebSocket) -> None:
    """Somebody else looks at its 'closed' all the time, as a broadcaster does."""

    def watch() -> None:
        while not is_done:
            assert ws.closed in (True, False)
            time.sleep(0.001)

    is_done: list[bool] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    ws.send("welcome")
    RECEIVED.clear()
    try:
        while not ws.closed:
            message = ws.receive()
            if message is not None:
                RECEIVED.append(str(message))
            time.sleep(0.3)  # So that the end is noticed meanwhile.
    finally:
        is_done.append(True)
        watcher.join()
        RECEIVED.append("end")


@app.get("/received")
def received() -> t.Any:
    return jsonify(RECEIVED)


@app.get("/kill")
def kill() -> str:
    """Ends all greenlets but its own, as some apps do to clean up."""
    import gc

    import gevent

    own = gevent.getcurrent()
    others = [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, gevent.Greenlet) and thing is not own
    ]
    gevent.killall(others, block=False)
    return "killed"


@app.after_request
def count(response: Response) -> Response:
    if request.path == "/bad-accept":
        AFTER[0] += 1
    return response


@sockets.route("/bad-accept")
def accept_badly(ws: WebSocket) -> None:
    """Accepts with a header that can't be sent."""
    ws.accept(headers={"No Name": "x"})


@app.get("/after")
def after() -> t.Any:
    return jsonify(AFTER[0])


#: The voices of a chorus: the first byte of its messages, which fills them.
VOICES = b"abcdefgh"


@sockets.route("/chorus")
def sing(ws: WebSocket) -> None:
    """Many send at once, and something is published meanwhile."""
    count = int(request.args["count"])
    ws.subscribe("chorus")

    def sing_one(voice: int) -> None:
        for number in range(count):
            size = (1, 100, 1000, 20_000, 100_000)[(number + voice) % 5]
            ws.send(
                bytes((voice,)) + number.to_bytes(4, "big") + bytes((voice,)) * size
            )

    def publish() -> None:
        for number in range(count):
            sockets.publish("chorus", b"p" + number.to_bytes(4, "big") + b"p" * 500)
            time.sleep(0.002)

    threads = [threading.Thread(target=sing_one, args=(voice,)) for voice in VOICES]
    threads.append(threading.Thread(target=publish))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ws.close(4000, "the end")
