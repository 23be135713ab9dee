"""How far a whole download is, from what it tells of each file at work: one line for whoever waits."""

from dataclasses import dataclass

FETCHING = "fetching "  # begins what download calls bytes that arrive
STEADY = 10.0  # seconds before the rest is guessed from what was


@dataclass
class Totals:
    """Files to be made and bytes to arrive, and how many of each there are."""

    files: int = 0
    size: int = 0
    finished: int = 0
    arrived: int = 0
    started: float = 0.0  # seconds, of any clock
    name: str = ""  # what is at work
    before: int = 0  # bytes of it when it was last told

    def tell(self, name: str, done: int) -> None:
        """Take in what download's `progress` is told.

        The first that is told of a file was there before: it is not among what is to arrive.
        """
        if name.startswith(FETCHING):
            if name == self.name:
                self.arrived = max(0, self.arrived + done - self.before)
            self.before = done
        self.name = name

    def line(self, now: float) -> str:
        """Files and bytes, and how long the rest takes if it goes on so."""
        line = f"{self.finished} of {self.files} files, {gigabytes(self.arrived)} of {gigabytes(self.size)} GB"
        passed = now - self.started
        if passed > STEADY and 0 < self.arrived < self.size:
            line += f", about {max(1, round(passed * (self.size - self.arrived) / self.arrived / 60))} min left"
        return line


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f}"
