-- What lets an agent join. Of the secret only its SHA-256 is kept.
CREATE TABLE join_tokens (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    secret BYTEA NOT NULL,
    note TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    uses_left BIGINT NOT NULL,
    revoked_us BIGINT
);

-- Agents that have joined.
CREATE TABLE agents (
    node TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- SHA-256 over the public keys that may speak for it: the newest, and the one before, which is good until the newest was used.
    key BYTEA NOT NULL,
    former_key BYTEA,
    joined_us BIGINT NOT NULL,
    seen_us BIGINT,
    revoked_us BIGINT
);

-- What lets a person or a program speak to the API. Of the secret only its SHA-256 is kept.
CREATE TABLE api_tokens (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    secret BYTEA NOT NULL,
    name TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    revoked_us BIGINT
);
