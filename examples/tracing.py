"""Tracing with OpenTelemetry: a span for the handshake, and one for each message.

With ``context="message"`` the span of the request ends when the handler waits for its
first message, and not hours later when the connection ends. What a message does is then
a trace of its own, which says by a link where it belongs to. Try it, with spans in the
terminal: ``flask --app examples/tracing wsrun``
"""

from flask import Flask, request
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from flask_sockets import Sockets, WebSocket

# Use an exporter of OTLP in production, and a processor that sends in batches.
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer(__name__)

app = Flask(__name__)
sockets = Sockets(app)
FlaskInstrumentor().instrument_app(app)  # type: ignore[no-untyped-call]


@app.get("/")
def index() -> str:
    return "<script>socket = new WebSocket('/shout')</script>"


@sockets.route("/shout", context="message")
def shout(ws: WebSocket) -> None:
    handshake = trace.Link(trace.get_current_span().get_span_context())
    name = f"message {request.url_rule}"
    for message in ws:
        # An exception in this block is recorded in the span.
        with tracer.start_as_current_span(name, links=[handshake]):
            ws.send(str(message).upper())
            if message == "fail":
                raise ValueError("This message fails.")
