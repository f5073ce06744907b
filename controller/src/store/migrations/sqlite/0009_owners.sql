-- Who put a schedule into force: it starts nothing that they may not start themselves. Null where Git did, and of schedules from before.
ALTER TABLE schedules ADD COLUMN owner TEXT;

-- What people who log in at the provider might do when they were last here: for what they left running.
CREATE TABLE logins (
    name TEXT PRIMARY KEY NOT NULL,
    grants TEXT NOT NULL,
    seen_us INTEGER NOT NULL
) STRICT;
