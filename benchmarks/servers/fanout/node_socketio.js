// Socket.IO on Node: a room. With REDIS_URL also across processes.

const http = require("http");
const { Server } = require("socket.io");

async function main() {
  const server = http.createServer();
  const io = new Server(server, {
    pingInterval: 3_600_000,
    maxHttpBufferSize: 2 ** 24,
    serveClient: false,
  });

  if (process.env.REDIS_URL) {
    const { createAdapter } = require("@socket.io/redis-adapter");
    const { createClient } = require("redis");
    const publisher = createClient({ url: process.env.REDIS_URL });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(createAdapter(publisher, subscriber));
  }

  io.on("connection", (socket) => {
    socket.on("subscribe", () => {
      socket.join("bench");
      socket.emit("ready");
    });
    socket.on("publish", (data) => io.to("bench").emit("m", data));
  });

  server.listen(Number(process.argv[2]), "127.0.0.1");
}

main();
