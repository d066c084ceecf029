"""The process that serves: loads the app once, serves it until it is told to stop, and
ends.
"""

#: What is never imported here: another process watches the files.
NEVER_IMPORTED = ("watchdog",)
