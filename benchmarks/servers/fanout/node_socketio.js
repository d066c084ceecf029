// Socket.IO on Node: a room.

const { Server } = require("socket.io");

const io = new Server({
  pingInterval: 3_600_000,
  maxHttpBufferSize: 2 ** 24,
  serveClient: false,
});

io.on("connection", (socket) => {
  socket.on("subscribe", () => {
    socket.join("bench");
    socket.emit("ready");
  });
  socket.on("publish", (data) => io.to("bench").emit("m", data));
});

const http = require("http").createServer();
io.attach(http);
http.listen(Number(process.argv[2]), "127.0.0.1");
