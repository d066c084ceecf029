// The library ws on Node: a set of members, and a loop that sends to each.

const { WebSocket, WebSocketServer } = require("ws");

const port = Number(process.argv[2]);
const server = new WebSocketServer({ host: "127.0.0.1", port });
const members = new Set();

server.on("connection", (ws, request) => {
  if (request.url === "/publish") {
    ws.on("message", (data, isBinary) => {
      for (const member of members) {
        if (member.readyState === WebSocket.OPEN) {
          member.send(data, { binary: isBinary });
        }
      }
    });
    return;
  }
  members.add(ws);
  ws.on("close", () => members.delete(ws));
  ws.send("ready");
});
