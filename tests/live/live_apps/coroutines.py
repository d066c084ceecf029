"""Views that are coroutines, and wait for each other."""

import asyncio
import contextvars

from flask import Flask, g, request

from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)
waiting: set[str] = set()
number = contextvars.ContextVar("number")


@app.before_request
async def before():
    g.name = request.args.get("name", "")
    number.set(g.name)


@app.get("/meet/<int:size>")
async def meet(size):
    waiting.add(g.name)
    while len(waiting) < size:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return f"{request.args['name']} {g.name}"


@app.get("/fail")
async def fail():
    await asyncio.sleep(0)
    raise LookupError("a mistake in a coroutine")


@app.errorhandler(LookupError)
async def handle(error):
    return str(error), 418
