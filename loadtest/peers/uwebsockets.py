"""The peer in C++: uWebSockets by way of socketify, which publishes to every connection.

Run as a script by `loadtest.bench`, with whatever Python has socketify; imports nothing else.
Whatever it is sent, it publishes as it is. It spins: it is stopped while others are measured.
Prints its version as one line when it serves, or nothing when socketify is absent.
"""

import sys
from importlib.metadata import version

try:
    from socketify import App, AppListenOptions, CompressOptions, OpCode
except Exception as error:  # noqa: BLE001 - whatever a native library fails with
    sys.exit(f"socketify cannot be used: {type(error).__name__}: {error}")

ROOM = "room"


def main() -> None:
    """Serve on a port of the loopback."""
    app = App(idle_relaxation_time=0)  # its loop naps between events otherwise

    def opened(ws: object) -> None:
        ws.subscribe(ROOM)  # type: ignore[attr-defined]

    def told(ws: object, message: object, opcode: object) -> None:
        app.publish(ROOM, message, OpCode.BINARY)

    def ready(_: object) -> None:
        sys.stdout.write(version("socketify") + "\n")
        sys.stdout.flush()

    app.ws(
        "/*",
        {
            "compression": CompressOptions.DISABLED,
            "idle_timeout": 0,
            "max_backpressure": 16 * 1024 * 1024,
            "open": opened,
            "message": told,
        },
    )
    app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), ready)
    app.run()


if __name__ == "__main__":
    main()
