"""What Flask makes of its visitor's scheme. PLAIN, here and in the others, leaves out the setting of docs/apps.md."""

import os

import adit
from flask import Flask, redirect, request, session, url_for

app = Flask(__name__)
app.secret_key = "not a secret: a test's"
app.config["SESSION_COOKIE_SECURE"] = True
if "PLAIN" not in os.environ:
    app.wsgi_app = adit.https(app.wsgi_app, proxy_protocol=os.environ.get("PROXY_PROTOCOL"))


@app.get("/where")
def where():
    return {"url": url_for("where", _external=True), "secure": request.is_secure, "visitor": request.remote_addr}


@app.get("/folder/")
def folder():
    return "the folder"


@app.get("/old")
def old():
    return redirect(url_for("folder", _external=True))


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        session["user"] = request.form["user"]
        return redirect(url_for("login"))
    form = '<form method="post"><input name="user" value="alice"><button>in</button></form>'
    return f"<p>{session.get('user', 'nobody')}</p>{form}"
