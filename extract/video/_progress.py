"""How far this process has come with whatever it reads: the only sign of life while no frame is wanted."""

packets = 0


def advance() -> None:
    """Another packet was looked at."""
    global packets
    packets += 1
