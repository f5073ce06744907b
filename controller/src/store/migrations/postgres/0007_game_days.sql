-- Game days that were opened. Everything else of one is in its events.
CREATE TABLE game_days (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    -- As its file says: YYYY-MM-DD.
    held_on TEXT NOT NULL,
    -- Where its experiments run: JSON, a list of names.
    environments TEXT NOT NULL,
    opened_us BIGINT NOT NULL,
    opened_by TEXT NOT NULL,
    -- Its file and its experiments', as they were given: JSON, as `store::GameDayFiles` has it.
    files TEXT NOT NULL,
    -- Null until it is over.
    ended_us BIGINT
);

CREATE TABLE game_day_events (
    game_day TEXT COLLATE "C" NOT NULL REFERENCES game_days (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    -- JSON, as `gameday::What` has it.
    what TEXT NOT NULL,
    PRIMARY KEY (game_day, sequence)
);
