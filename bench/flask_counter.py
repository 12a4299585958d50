"""What stats is held against: the simulated API by Flask, which counts in Redis, and its list.

    REDIS_PORT=PORT gunicorn flask_counter:app
"""
import os

import flask
import redis

app = flask.Flask(__name__)
store = redis.Redis(port=int(os.environ["REDIS_PORT"]))


@app.get("/api/<path:_>")
def answer(_):
    store.zincrby("paths", 1, flask.request.path)
    return flask.jsonify(message="ok")


@app.get("/stats/")
def list_paths():
    rows = store.zrevrange("paths", 0, -1, withscores=True)
    return flask.jsonify([{"path": path.decode(), "count": int(count)} for path, count in rows])
