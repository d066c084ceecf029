"""The warm process: patches the standard library, imports the framework, and forks a
server for each load of the app.
"""

#: What is never imported here: a forked process has no threads that could go on
#: watching files, and the app is imported in the servers only.
NEVER_IMPORTED = ("watchdog",)
