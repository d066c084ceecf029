"""Many sockets: topics that they subscribe to, and what is published to those.

From the top down: :mod:`.app` is what an app has of all this, :mod:`.rules` says what
it declared about topics, a :mod:`.broker` orders publications and brings them to each
process, and the :mod:`.fanout` brings them to the sockets there.
"""
