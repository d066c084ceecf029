"""Django Channels on uvicorn, with its layer for Redis: a group."""

import os
import sys

import django
import uvicorn
from django.conf import settings

settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # What comes beyond the capacity, 100 by default, is dropped.
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]], "capacity": 100_000},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class Subscribe(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()
        await self.send(text_data="ready")

    async def bench_message(self, event):
        await self.send(text_data=event["text"])


class Publish(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        event = {"type": "bench.message", "text": text_data}
        await self.channel_layer.group_send("bench", event)


routes = [path("subscribe", Subscribe.as_asgi()), path("publish", Publish.as_asgi())]
uvicorn.run(
    ProtocolTypeRouter({"websocket": URLRouter(routes)}),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="warning",
    ws_per_message_deflate=False,
    ws_ping_interval=None,
)
