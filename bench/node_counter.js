// What stats is held against: the simulated API by Node, which counts in its own memory and keeps
// nothing.
//
//	node node_counter.js PORT
"use strict";

const http = require("http");

const body = '{"message":"ok"}';
const fields = {"Content-Type": "application/json", "Content-Length": body.length};
const counts = new Map();

http.createServer((request, response) => {
	const query = request.url.indexOf("?");
	const path = query < 0 ? request.url : request.url.slice(0, query);

	counts.set(path, (counts.get(path) || 0) + 1);
	response.writeHead(200, fields);
	response.end(body);
}).listen(Number(process.argv[2]), "127.0.0.1", 1024);
