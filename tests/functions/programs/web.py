"""What test_serve.py serves."""
from fastapi import FastAPI

from adit import Stub, asgi_app, enter, web_endpoint, web_server, wsgi_app

stub = Stub()


@stub.function()
@web_endpoint()
def hello(name: str = "you"):
    return {"hello": name, "version": 1}


@stub.function()
@web_endpoint(docs=True, cors=True, label="shown")
def shown():
    return {}


@stub.function()
@asgi_app()
def pages():
    app = FastAPI()

    @app.get("/deep/page")
    def page():
        return {"page": "deep"}
    return app


@stub.function()
@wsgi_app()
def old():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"wsgi " + environ["PATH_INFO"].encode()]
    return application


@stub.function()
@web_server(8000)
def files():
    import subprocess
    subprocess.Popen(["python3", "-m", "http.server", "8000", "--directory", "/etc"])


@stub.cls()
class Model:
    @enter()
    def load(self):
        self.asked = []

    @web_endpoint()
    def answer(self, word: str = "you"):
        self.asked.append(word)
        return self.asked

    @asgi_app()
    def pages(self):
        app = FastAPI()
        app.add_api_route("/count", lambda: self.answer("me"))
        return app
