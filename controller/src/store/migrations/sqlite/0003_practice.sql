-- What runs that held or broke say, in the order in which it was kept.
CREATE TABLE evidence (
    recorded INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    -- The public key of who vouched for it; empty where this controller saw it itself.
    signed_by TEXT NOT NULL,
    digest TEXT NOT NULL,
    environment TEXT NOT NULL,
    ended_us INTEGER NOT NULL,
    -- JSON, as `stage::Evidence` has it.
    what TEXT NOT NULL,
    UNIQUE (run, signed_by)
) STRICT;
CREATE INDEX evidence_by_digest ON evidence (digest, recorded);

CREATE TABLE approvals (
    id TEXT PRIMARY KEY NOT NULL,
    digest TEXT NOT NULL,
    experiment TEXT NOT NULL,
    environment TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    because TEXT NOT NULL,
    requested_us INTEGER NOT NULL
) STRICT;
CREATE INDEX approvals_by_digest ON approvals (digest, environment);

CREATE TABLE votes (
    approval TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    voter TEXT NOT NULL,
    agree INTEGER NOT NULL,
    because TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    -- The last evidence there was when it was said.
    seen INTEGER NOT NULL,
    PRIMARY KEY (approval, voter)
) STRICT;

-- Answers to the checklist, in the order in which they were given.
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    environment TEXT NOT NULL,
    item INTEGER NOT NULL,
    yes INTEGER NOT NULL,
    because TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX answers_by_digest ON answers (digest, environment);

-- Why each run was allowed to start. JSON, as `stage::Decision` has it.
CREATE TABLE preflights (
    run TEXT PRIMARY KEY NOT NULL,
    decision TEXT NOT NULL
) STRICT;

-- Who did what. Each entry has the hash of the one before it in its own.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY NOT NULL,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,
    token TEXT NOT NULL,
    action TEXT NOT NULL,
    status INTEGER NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- What was answered to a request that must not be done twice.
CREATE TABLE idempotency (
    who TEXT NOT NULL,
    name TEXT NOT NULL,
    -- SHA-256 over the request.
    request BLOB NOT NULL,
    -- Null while it is being done.
    status INTEGER,
    body TEXT,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (who, name)
) STRICT;

-- What a token lets its holder do: JSON, as `access::Grants` has it. Tokens from before there were roles could do everything.
ALTER TABLE api_tokens ADD COLUMN grants TEXT NOT NULL DEFAULT '[{"role":"admin"}]';
