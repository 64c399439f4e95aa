// node dev.js PORT
const path = require("path");
const webpack = require("webpack");
const WebpackDevServer = require("webpack-dev-server");

const compiler = webpack({
  mode: "development", context: process.cwd(), entry: "./index.js",
  output: { path: path.resolve("dist") },
  resolveLoader: { modules: [process.env.NODE_PATH] }, resolve: { modules: [process.env.NODE_PATH] },
});
new WebpackDevServer({
  host: "127.0.0.1", port: Number(process.argv[2]), static: { directory: ".", watch: false },
  ...("PLAIN" in process.env ? {} : {
    allowedHosts: [process.env.ADIT_HOST],
    client: { webSocketURL: "auto://0.0.0.0:0/ws" },
  }),
}, compiler).start();
