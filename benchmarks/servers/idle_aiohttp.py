"""aiohttp, with handlers that receive.

The first argument is the interval of the pings in seconds, or 0 for none.
"""

import sys

from aiohttp import web


async def receive(request):
    ws = web.WebSocketResponse(compress=False, heartbeat=int(sys.argv[1]) or None)
    await ws.prepare(request)
    await ws.send_str("ready")
    async for _ in ws:
        pass
    return ws


app = web.Application()
app.router.add_get("/receiving", receive)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
