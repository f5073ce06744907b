-- What lets an agent join. Of the secret only its SHA-256 is kept.
CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    secret BLOB NOT NULL,
    note TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    uses_left INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

-- Agents that have joined.
CREATE TABLE agents (
    node TEXT PRIMARY KEY NOT NULL,
    -- SHA-256 over the public keys that may speak for it: the newest, and the one before, which is good until the newest was used.
    key BLOB NOT NULL,
    former_key BLOB,
    joined_us INTEGER NOT NULL,
    seen_us INTEGER,
    revoked_us INTEGER
) STRICT;

-- What lets a person or a program speak to the API. Of the secret only its SHA-256 is kept.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    secret BLOB NOT NULL,
    name TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER
) STRICT;
