-- Who started a run on a controller, and where. A row without a verdict in `runs` is under way, or was interrupted.
CREATE TABLE started_runs (
    run TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    environment TEXT NOT NULL,
    started_by TEXT NOT NULL,
    at_us BIGINT NOT NULL
);

-- Halts of everything; the one that was not lifted is in force.
CREATE TABLE halts (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    said_by TEXT NOT NULL,
    because TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    lifted_by TEXT,
    lifted_us BIGINT
);
