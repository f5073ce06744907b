-- Which controller leads. One line; its token grows with each change, and what an earlier leader writes is refused by it.
CREATE TABLE leader (
    one BIGINT PRIMARY KEY NOT NULL CHECK (one = 1),
    token BIGINT NOT NULL,
    -- Where the leader is reached: https://HOST:PORT.
    address TEXT NOT NULL,
    -- Until when, by the database's clock, unless it says so again.
    until_us BIGINT NOT NULL
);
INSERT INTO leader (one, token, address, until_us) VALUES (1, 0, '', 0);

-- The controllers' authority, where several share it. Whoever reads it can speak for any agent.
CREATE TABLE authority (
    one BIGINT PRIMARY KEY NOT NULL CHECK (one = 1),
    certificate TEXT NOT NULL,
    key TEXT NOT NULL
);

-- The token of the leader that drove the run; null for a run of `squall run`, which ends with its own process.
ALTER TABLE runs ADD COLUMN term BIGINT;
