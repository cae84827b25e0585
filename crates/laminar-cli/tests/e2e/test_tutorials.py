"""The tutorials of the description, run to the end of their files by `laminar run`.

Each script of `tutorials/` is run as its page has it, with `$input_dir` and `$output_path` filled in. What it writes is judged
by the same answer worked out here from the data; the cars are not in order, so where there are windows some are late. A
`debezium_json` output is folded to its last state; `--pk=` in the script's first line names the key of its rows.
"""

import json
import re
import subprocess
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from laminar import clean_environment

TUTORIALS = Path(__file__).parent / "tutorials"
DATA = TUTORIALS / "data"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Files this short fit into one batch, which hides what comes between: hence once in batches of seven rows.
WAYS = {
    "parallelism_1": (1, None),
    "parallelism_4": (4, None),
    "small_batches": (4, 7),
}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def moment(text):
    return datetime.fromisoformat(text)


def cars():
    return [{**car, "timestamp": moment(car["timestamp"])} for car in lines(DATA / "cars.json")]


def on_time(rows, delay):
    """Of rows in the order of the file, those that are not behind the latest one before them by more than the delay."""
    latest, kept = None, []
    for row in rows:
        if latest is None or row["timestamp"] >= latest - delay:
            kept.append(row)
        latest = row["timestamp"] if latest is None else max(latest, row["timestamp"])
    return kept


def impulse():
    return [{**row, "timestamp": moment(row["timestamp"])} for row in lines(DATA / "impulse.json")]


def orders():
    """The orders that are left when every change of the file has been made."""
    left = {}
    for change in lines(DATA / "aggregate_updates.json"):
        if change["before"] is not None:
            left.pop(change["before"]["id"])
        if change["after"] is not None:
            left[change["after"]["id"]] = change["after"]
    return left.values()


def floor(time, size):
    return EPOCH + (time - EPOCH) // size * size


def windows(time, slide, size):
    """The starts of the sliding windows that hold the time."""
    start = floor(time, slide)
    while start + size > time:
        yield start
        start -= slide


def statistics(numbers):
    total, count = sum(numbers), len(numbers)
    return {"min": min(numbers), "max": max(numbers), "sum": total, "count": count, "avg": total / count}


def grouped(rows, key):
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups.items()


def select_star():
    return cars()


def union():
    return [{"counter": row["counter"], "source": source} for source in ("first", "second") for row in impulse()]


def json_operators():
    return [{"driver_id": car["driver_id"], "event_type": car["event_type"], "missing": None} for car in cars()]


def aggregates():
    return [statistics([row["counter"] for row in impulse()])]


def grouped_aggregates():
    groups = grouped((row["counter"] for row in impulse()), lambda counter: counter % 5)
    return [{"counter_mod": key, **statistics(counters)} for key, counters in groups]


def debezium_agg():
    return [
        {
            "p": f"p_{product}",
            "count": len(rows),
            "customers": len({row["customer_name"] for row in rows}),
            "quantity": sum(row["quantity"] + 5 for row in rows) + 10,
        }
        for product, rows in grouped(orders(), lambda order: order["product_name"])
    ]


def hourly_by_event_type():
    counts = Counter((car["event_type"], floor(car["timestamp"], HOUR)) for car in on_time(cars(), SECOND))
    return [{"event_type": kind, "hour": hour, "count": count} for (kind, hour), count in counts.items()]


def tight_watermark():
    counts = Counter(floor(car["timestamp"], HOUR) for car in on_time(cars(), delay=timedelta(0)))
    return [{"timestamp": hour + HOUR, "count": count} for hour, count in counts.items()]


def sliding_window_end():
    slide, size = 2 * SECOND, 10 * SECOND
    counters = defaultdict(list)
    for row in impulse():
        for start in windows(row["timestamp"], slide, size):
            counters[start].append(row["counter"])
    return [
        {"count": len(of), "min": min(of), "max": max(of), "start": start, "end": start + size}
        for start, of in counters.items()
    ]


def session_window():
    gap = 20 * SECOND
    sessions = []
    for user, rows in grouped(impulse(), lambda row: row["counter"] if row["counter"] % 10 else 0):
        last = None
        for time in sorted(row["timestamp"] for row in rows):
            if last is None or time >= last["end"]:
                last = {"start": time, "end": time, "user_id": user, "rows": 0}
                sessions.append(last)
            last["end"] = time + gap
            last["rows"] += 1
    return sessions


def most_active_driver_last_hour():
    counts = defaultdict(Counter)
    for car in on_time(cars(), HOUR):
        for start in windows(car["timestamp"], MINUTE, HOUR):
            counts[start][car["driver_id"]] += 1
    winners = {start: max((count, driver) for driver, count in of.items()) for start, of in counts.items()}
    return [
        {"driver_id": driver, "count": count, "start": start, "end": start + HOUR, "row_number": 1}
        for start, (count, driver) in winners.items()
    ]


def windowed_inner_join():
    drivers = {"dropoff": defaultdict(set), "pickup": defaultdict(set)}
    for car in on_time(cars(), SECOND):
        drivers[car["event_type"]][floor(car["timestamp"], HOUR)].add(car["driver_id"])
    dropoffs, pickups = drivers["dropoff"], drivers["pickup"]
    return [
        {"hour": hour, "dropoff_drivers": len(dropoffs[hour]), "pickup_drivers": len(pickups[hour])}
        for hour in dropoffs.keys() & pickups.keys()
    ]


def updating_inner_join():
    odd = [row["counter"] for row in impulse() if row["counter"] % 2 == 1]
    return [{"left_counter": counter, "counter_mod_2": 1, "right_count": counter} for counter in odd]


ANSWERS = {
    answer.__name__: answer
    for answer in (
        select_star, union, json_operators, aggregates, grouped_aggregates, debezium_agg, hourly_by_event_type,
        tight_watermark, sliding_window_end, session_window, most_active_driver_last_hour, windowed_inner_join,
        updating_inner_join,
    )
}  # fmt: skip
TIMES = {"timestamp", "hour", "start", "end"}


def test_every_script_has_an_answer():
    assert {path.stem for path in TUTORIALS.glob("*.sql")} == ANSWERS.keys()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ANSWERS)
def test_tutorial(name, way, binary, tmp_path):
    parallelism, batch_size = WAYS[way]
    text = (TUTORIALS / f"{name}.sql").read_text()
    written, script = tmp_path / "output.json", tmp_path / f"{name}.sql"
    filled = text.replace("$input_dir", str(DATA)).replace("$output_path", str(written))
    if batch_size:
        filled = filled.replace("type = 'source'", f"type = 'source', batch_size = {batch_size}")
    script.write_text(filled)
    done = subprocess.run(
        [binary, "run", script, "--parallelism", str(parallelism)],
        capture_output=True, text=True, timeout=60, env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    rows = lines(written)
    if "debezium_json" in sink(text):
        rows = fold(rows, primary_key(text), several=batch_size is not None)
    rows = [{column: moment(value) if column in TIMES else value for column, value in row.items()} for row in rows]
    assert counted(rows) == counted(ANSWERS[name]())


def sink(text):
    """The script's statement that makes the table it writes into."""
    [statement] = [part for part in text.split(";") if "$output_path" in part]
    return statement


def primary_key(text):
    named = re.match(r"--pk=(\S+)", text)
    return named[1].split(",") if named else []


def fold(changes, key, several):
    """The rows that are left by changes, each of which must be of the row that is there."""
    current = {}
    kinds = Counter()
    for change in changes:
        before, after, kind = change["before"], change["after"], change["op"]
        assert (before is None, after is None) == {"c": (True, False), "u": (False, False), "d": (False, True)}[kind]
        at = tuple((after or before)[column] for column in key)
        assert current.get(at) == before, change
        if after is None:
            del current[at]
        else:
            assert before is None or at == tuple(before[column] for column in key), change
            current[at] = after
        kinds[kind] += 1
    if several and len(changes) > len(current):
        assert kinds["u"] > 0, kinds
    return current.values()


def counted(rows):
    return Counter(tuple(sorted(row.items())) for row in rows)
