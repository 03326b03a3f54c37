"""`Measurements`: mean and quantiles of measured values."""

from array import array


class Measurements:
    """Measured values, 8 bytes each."""

    def __init__(self) -> None:
        self._values = array("d")

    def add(self, value: float) -> None:
        """Take one more value."""
        self._values.append(value)

    def mean(self) -> float | None:
        """Arithmetic mean, None without values."""
        return sum(self._values) / len(self._values) if self._values else None

    def quantile(self, share: float) -> float | None:
        """The value at that share of the sorted values (nearest rank), None without values."""
        if not self._values:
            return None
        ordered = sorted(self._values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
