// Bun, with the topics that it has built in.

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv.at(-1)),
  fetch(request, server) {
    const publishes = new URL(request.url).pathname === "/publish";
    if (!server.upgrade(request, { data: { publishes } })) {
      return new Response("A WebSocket is expected.", { status: 426 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    open(ws) {
      if (!ws.data.publishes) {
        ws.subscribe("bench");
        ws.send("ready");
      }
    },
    message(ws, message) {
      if (ws.data.publishes) ws.publish("bench", message);
    },
  },
});
