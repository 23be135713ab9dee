"""The results as Markdown, to be pasted into docs/benchmarks.md."""

from typing import Any

Row = dict[str, Any]


def number(value: Any) -> str:
    """Three significant digits; words as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - decade(value))}f}" if value else "0"


def decade(value: float) -> int:
    """Of 4.2 it is 0, of 42 it is 1, of 0.42 it is -1."""
    return int(f"{value:e}".split("e")[1])


def table(rows: list[Row]) -> list[str]:
    """One line a row. What a row has no figure for stays empty; a row that was not measured says why."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in ("name", "not_measured")))
    lines = [f"| {' | '.join(['', *columns, *([] if columns else ['figures'])])} |"]
    lines.append(f"|{' --- |' * (lines[0].count('|') - 1)}")
    for row in rows:
        cells = [number(row[column]) if column in row else "" for column in columns]
        if "not_measured" in row:
            cells = [f"not measured: {number(row['not_measured'])}", *[""] * (len(columns) - 1)]
        lines.append(f"| {' | '.join([row['name'], *cells])} |")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """All parts, each with its command's facts above its table."""
    machine = results["machine"]
    facts = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "device")
    lines = [f"`sh benchmarks/gpu.sh`, {results['date']}: {machine['device']}, {facts}."]
    if results["rehearsed"]:
        lines.append("A REHEARSAL: small models on the CPU. No figure here says anything of a GPU.")
    for part in results["parts"]:
        took = f" ({part['seconds']:.0f} s)" if "seconds" in part else ""
        lines += ["", f"### {part['title']}{took}", "", *table(part["rows"])]
    return "\n".join(lines) + "\n"
