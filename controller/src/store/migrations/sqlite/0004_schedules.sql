-- Schedules in force: what a controller that starts goes on with.
CREATE TABLE schedules (
    name TEXT PRIMARY KEY NOT NULL,
    -- The schedule's file, its experiment's and its calendars', as they were given: JSON, as `store::ScheduleFiles` has it.
    files TEXT NOT NULL,
    -- The commit they come from; null where a person gave them.
    source TEXT,
    added_us INTEGER NOT NULL,
    -- Everything that was due up to then is decided.
    settled_us INTEGER NOT NULL,
    -- Both null while it starts runs.
    suspended_us INTEGER,
    suspended_because TEXT
) STRICT;

-- What became of each time of a schedule. A row is there before the run begins, so that nobody else starts it.
CREATE TABLE schedule_starts (
    schedule TEXT NOT NULL,
    due_us INTEGER NOT NULL,
    -- claimed, started, ended, passed over or refused.
    state TEXT NOT NULL,
    run TEXT,
    -- Which controller claimed it, and when.
    holder TEXT NOT NULL,
    claimed_us INTEGER NOT NULL,
    because TEXT,
    PRIMARY KEY (schedule, due_us)
) STRICT;
CREATE INDEX schedule_starts_by_state ON schedule_starts (schedule, state);
