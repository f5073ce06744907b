-- One line per run, for the list; everything else is in its events.
CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    -- Both null until it has ended.
    verdict TEXT,
    because TEXT
) STRICT;
CREATE INDEX runs_by_time ON runs (created_us);
CREATE INDEX runs_by_digest ON runs (digest, created_us);

CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    -- JSON, as `squall_experiments::event::Happening` has it.
    what TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT, WITHOUT ROWID;
