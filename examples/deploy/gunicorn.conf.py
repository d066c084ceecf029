"""How gunicorn serves the app. It reads this file from the directory it is started in.

Everything can be overridden, as in 'gunicorn --workers 4 app:app'.
"""

import os

worker_class = "flask_sockets.worker"
wsgi_app = "app:app"

# The address is taken from PORT where a platform sets that, and is port 8000 otherwise.
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"

# One for each processor. Greenlets share one.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# A worker that ends tells its WebSockets in the first half of these seconds, and cuts
# them after three quarters. Whatever stops gunicorn has to wait for all of them.
graceful_timeout = 25

# Workers are watched by files. On a disk that is busy they would seem to hang.
worker_tmp_dir = "/dev/shm"

# Nobody talks to gunicorn by its socket, for which a container's user has no directory.
control_socket_disable = True


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """Let Prometheus forget the gauges of a worker, where they are shared by files."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
