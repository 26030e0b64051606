#!/bin/sh
# The shell stays and does not pass signals on, as in many projects. uvicorn is found in the app's packages.
uvicorn asgi:app --uds "$1" --ws-ping-interval "$2" --forwarded-allow-ips '*' --no-access-log
