"""The library websockets on asyncio, with its function for sending to many."""

import asyncio
import sys

from websockets.asyncio.server import broadcast, serve

members = set()


async def handle(ws):
    if ws.request.path == "/publish":
        async for message in ws:
            broadcast(members, message)
        return
    members.add(ws)
    try:
        await ws.send("ready")
        await ws.wait_closed()
    finally:
        members.discard(ws)


async def main():
    async with serve(
        handle, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None
    ) as server:
        await server.serve_forever()


asyncio.run(main())
