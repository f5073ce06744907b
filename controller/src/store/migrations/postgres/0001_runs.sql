-- One line per run, for the list; everything else is in its events.
-- Names are compared by their bytes, as SQLite does, whatever the database's locale.
CREATE TABLE runs (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    -- Both null until it has ended.
    verdict TEXT,
    because TEXT
);
CREATE INDEX runs_by_time ON runs (created_us);
CREATE INDEX runs_by_digest ON runs (digest, created_us);

CREATE TABLE events (
    run TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    -- JSON, as `squall_experiments::event::Happening` has it.
    what TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
);
