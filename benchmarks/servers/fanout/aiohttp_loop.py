"""aiohttp: a set of members, and a loop that sends to each."""

import sys

from aiohttp import WSMsgType, web

members = set()


async def subscribe(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    members.add(ws)
    try:
        await ws.send_str("ready")
        async for _ in ws:
            pass
    finally:
        members.discard(ws)
    return ws


async def publish(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            for member in list(members):
                await member.send_str(message.data)
    return ws


app = web.Application()
app.router.add_get("/subscribe", subscribe)
app.router.add_get("/publish", publish)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
