"""Starlette on uvicorn: a set of members, and a loop that sends to each."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

members = set()


async def subscribe(ws):
    await ws.accept()
    members.add(ws)
    try:
        await ws.send_text("ready")
        async for _ in ws.iter_text():
            pass
    finally:
        members.discard(ws)


async def publish(ws):
    await ws.accept()
    async for message in ws.iter_text():
        for member in list(members):
            await member.send_text(message)


app = Starlette(
    routes=[
        WebSocketRoute("/subscribe", subscribe),
        WebSocketRoute("/publish", publish),
    ]
)
uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="warning",
    ws_per_message_deflate=False,
    ws_ping_interval=None,
)
