"""What is said where the storage below a file fails."""

from extract.errors import VideoError


def read_error(name: str, error: Exception) -> VideoError:
    """Reading failed half-way, for a reason that may pass."""
    return VideoError(name, "io_error", f"reading failed ({error}); check the disk or the network, then retry")


def from_os_error(name: str, error: OSError) -> VideoError:
    """The operating system refuses the file."""
    if isinstance(error, PermissionError):
        return VideoError(name, "permission", "may not be read by this user; change its permissions")
    if isinstance(error, FileNotFoundError):
        return VideoError(name, "missing", "there is no such file")
    return read_error(name, error)
