// Echo, by ws, the WebSocket library of node.

const http = require("node:http");
const { WebSocketServer } = require("ws");

const server = http.createServer((request, response) => response.end(request.headers["x-real-ip"]));
const websockets = new WebSocketServer({ server });

websockets.on("connection", (websocket) => {
  websocket.on("message", (data, binary) => websocket.send(data, { binary }));
});
setInterval(
  () => websockets.clients.forEach((websocket) => websocket.ping()),
  1000 * process.env.WEBSOCKETS_PING_INTERVAL,
).unref();

// ws has nothing for SIGTERM: node would end at once, without a close frame.
process.on("SIGTERM", () => {
  server.close();
  websockets.clients.forEach((websocket) => websocket.close(1012));
});

server.listen({ path: process.argv[2], backlog: Number(process.env.WEBSOCKETS_BACKLOG) });
