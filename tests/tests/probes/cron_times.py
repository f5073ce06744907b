"""When cron expressions are due, worked out by Python's zoneinfo and croniter: one JSON document a line.

Around changes of the clock croniter goes its own way; there the definition is followed to the letter, minute by minute: a time is due at
the first instant at which the place's clock shows it, or a later one. croniter reads the expressions, and answers where clocks never change.
"""

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterBadDateError, croniter

EPOCH = datetime(1970, 1, 1)
AROUND = 26 * 3600
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


def values(draw, least, most, names=None):
    """One field: never all of its range but as a star, which changes what the two days mean together."""
    word = lambda number: names[number - least] if names and draw.random() < 0.3 else str(number)
    kind = draw.randrange(5)
    if kind == 0:
        return "*"
    if kind == 1:
        return "*/%d" % draw.randint(2, max(2, (most - least) // 2))
    if kind == 2:
        first = draw.randint(least, most - 1)
        last = draw.randint(first + 1, max(first + 1, min(most, first + (most - least) // 2)))
        step = "/%d" % draw.randint(1, 4) if draw.random() < 0.3 else ""
        return "%s-%s%s" % (word(first), word(last), step)
    return ",".join(word(number) for number in sorted(draw.sample(range(least, most + 1), draw.randint(1, 3))))


def expression(draw):
    day = "L" if draw.random() < 0.05 else values(draw, 1, 31)
    week = "%d#%d" % (draw.randint(0, 6), draw.randint(1, 4)) if draw.random() < 0.05 else values(draw, 0, 6, DAYS)
    # Mostly at night, when clocks change, and not only on some days.
    hour = draw.choice(["*", "0-4", "1,2,3", "2", "1", "3", values(draw, 0, 23)])
    if draw.random() < 0.6:
        day = week = "*"
    month = "*" if draw.random() < 0.7 else values(draw, 1, 12, MONTHS)
    return " ".join([values(draw, 0, 59), hour, day, month, week])


def place(draw, zones):
    """A zone, and an instant near which its clock changes, if it ever does in that year."""
    name = draw.choice(zones)
    zone = ZoneInfo(name)
    begin = int(datetime(draw.randint(2005, 2036), 1, 1, tzinfo=timezone.utc).timestamp())
    offsets = [(at, datetime.fromtimestamp(at, zone).utcoffset()) for at in range(begin, begin + 366 * 86400, 43200)]
    changes = [at for (_, before), (at, after) in zip(offsets, offsets[1:]) if before != after]
    return name, zone, draw.choice(changes) if changes else begin + draw.randrange(366 * 1440) * 60


def walk(zone, begin, end):
    """Every minute that a place's clock shows for the first time, and the instant at which it, or a later one, is shown."""
    shown = None
    for at in range(begin, end + 60, 60):
        local = datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        now = (local - EPOCH) // timedelta(minutes=1)
        for minute in range(now if shown is None else shown + 1, now + 1):
            date = EPOCH + timedelta(minutes=minute)
            yield at, date.minute, date.hour, date.date()
        shown = now if shown is None else max(shown, now)


def days_of(cron, dates):
    """Which of some dates an expression names."""
    fields, nth = croniter.expand(cron)
    day, month, week = fields[2], fields[3], fields[4]
    is_any = lambda field: field[0] == "*"

    def named(date):
        last = (date + timedelta(days=1)).month != date.month
        of_month = is_any(day) or date.day in day or ("l" in day and last)
        number = date.isoweekday() % 7
        if nth:
            of_week = number in nth and (date.day - 1) // 7 + 1 in nth[number]
        else:
            of_week = is_any(week) or number in week
        both = of_month and of_week if is_any(day) or is_any(week) and not nth else of_month or of_week
        return both and (is_any(month) or date.month in month)

    return {date for date in dates if named(date)}


def main(seed, places, each, plain):
    draw = random.Random(seed)
    zones = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("posix/", "right/")))
    for _ in range(places):
        name, zone, change = place(draw, zones)
        begin, end = change - AROUND, change + AROUND
        minutes = list(walk(zone, begin - AROUND, end))
        dates = {date for _, _, _, date in minutes}
        for _ in range(each):
            cron = expression(draw)
            fields, _ = croniter.expand(cron)
            every = lambda field, count: set(range(count)) if field[0] == "*" else set(field)
            in_hour, in_day, days = every(fields[0], 60), every(fields[1], 24), days_of(cron, dates)
            due = {at for at, minute, hour, date in minutes if minute in in_hour and hour in in_day and date in days and at > begin}
            print(json.dumps({"zone": name, "cron": cron, "from": begin, "until": end, "due": sorted(due)}))
    while plain:
        cron = expression(draw)
        # Beside a day of the month, croniter does not take the second Monday for one of two.
        if "#" in cron and cron.split()[2] != "*":
            continue
        begin = int(datetime(2004, 1, 1, tzinfo=timezone.utc).timestamp()) + draw.randrange(30 * 365 * 1440) * 60
        try:
            times = croniter(cron, datetime.fromtimestamp(begin, timezone.utc))
            due = [int(times.get_next(float)) for _ in range(3)]
        except CroniterBadDateError:
            # It gives up on some days that do come, in leap years alone.
            continue
        plain -= 1
        print(json.dumps({"zone": "Etc/UTC", "cron": cron, "from": begin, "until": due[-1], "due": due}))


main(*map(int, sys.argv[1:]))
