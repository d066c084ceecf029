"""How servers hand over a socket: gevent's pywsgi, gunicorn's worker, and others."""
