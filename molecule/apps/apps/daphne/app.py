"""Echo, by Django Channels; each message goes through the channel layer, as one for another process would."""

import asyncio

import django.conf
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from twisted.internet import defer, reactor

django.conf.settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:6379"]},
        }
    },
)
clients = set()


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        clients.add(self)

    async def disconnect(self, code):
        clients.discard(self)

    async def receive(self, text_data):
        await self.channel_layer.send(self.channel_name, {"type": "tell", "text": text_data})

    async def tell(self, event):
        await self.send(event["text"])


async def say_goodbye():
    # Daphne refuses to send 1012, and all others but 1000 and those that an app chooses for itself.
    await asyncio.gather(*(client.close(4012) for client in clients))
    # Daphne has ended the consumers by then, so nobody hears that a client has answered.
    await asyncio.sleep(1)


def plain(request):
    return HttpResponse(request.META["REMOTE_ADDR"])


urlpatterns = [path("", plain)]
application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter([path("", Echo.as_asgi())])})
# Daphne itself drops its clients without a close frame.
reactor.addSystemEventTrigger(
    "before", "shutdown", lambda: defer.Deferred.fromFuture(asyncio.ensure_future(say_goodbye()))
)
