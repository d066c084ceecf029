"""Members who are looked up in a database: Flask-SQLAlchemy, Flask-Login, and
Flask-Session."""

import os

from cachelib import SimpleCache
from flask import Flask, request
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
)
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy

from flask_sockets import Sockets, WebSocketView

db = SQLAlchemy()
login_manager = LoginManager()
sockets = Sockets()


class User(UserMixin, db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String, unique=True)
    active = db.Column(db.Boolean, default=True)

    @property
    def is_active(self):
        return self.active


@login_manager.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


class Member(WebSocketView):
    """Says who sends, if they are still let in."""

    @login_required
    def on_open(self, ws):
        ws.send(f"welcome {current_user.name}")

    @login_required
    def on_message(self, ws, message):
        ws.send(f"{current_user.name}: {message}")

    def on_close(self, ws, code, reason):
        print(f"{current_user.name} left with {code}", flush=True)


@sockets.route("/function", context="message")
@login_required
def function(ws):
    for message in ws:
        if not current_user.is_authenticated:
            ws.close(1008, "out")
            return
        ws.send(f"{current_user.name}: {message}")


def count_users(ws):
    for _ in ws:
        ws.send(str(db.session.query(User).count()))


sockets.add_url_rule("/member", view_func=Member.as_view("member"))
sockets.add_url_rule("/held", "held", count_users)
sockets.add_url_rule("/released", "released", count_users, context="message")


def create_app(path, **config):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="secret",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}",
        SESSION_TYPE="cachelib",
        SESSION_CACHELIB=SimpleCache(),
        **config,
    )
    db.init_app(app)
    Session(app)
    login_manager.init_app(app)
    sockets.init_app(app)
    with app.app_context():
        db.create_all()

    @app.post("/login/<name>")
    def login(name):
        user = User(name=name, active=True)
        db.session.add(user)
        db.session.commit()
        login_user(user)
        return ""

    @app.post("/deactivate/<name>")
    def deactivate(name):
        db.session.query(User).filter_by(name=name).update({"active": False})
        db.session.commit()
        return ""

    @app.get("/checked-out")
    def checked_out():
        return {"connections": db.engine.pool.checkedout(), "path": request.path}

    return app


if "DATABASE" in os.environ:
    app = create_app(os.environ["DATABASE"])
