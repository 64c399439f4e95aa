// node express_app.js PORT
const express = require("express");
const http = require("http");
const session = require("express-session");
const { WebSocketServer } = require("ws");

const app = express();
const cookie = { secure: true };
app.use(session({ secret: "not a secret: a test's", resave: false, saveUninitialized: false, cookie }));
app.use(express.urlencoded({ extended: false }));
app.get("/where", (request, response) => {
  const url = `${request.protocol}://${request.get("host")}/where`;
  response.json({ url, secure: request.secure, visitor: request.ip });
});
app.get("/login", (request, response) => {
  const name = request.session.user ?? "nobody";
  response.send(`<p>${name}</p><form method="post"><input name="user" value="alice"><button>in</button></form>`);
});
app.post("/login", (request, response) => {
  request.session.user = request.body.user;
  response.redirect("/login");
});

const server = http.createServer(app);
if (!("PLAIN" in process.env)) {
  // TLS ends before the tunnel: this is what express, koa, fastify and their sessions ask.
  server.on("connection", (socket) => { socket.encrypted = true; });
}
new WebSocketServer({ server }).on("connection", (socket) => {
  socket.on("message", (data) => socket.send(`${data} back`));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
