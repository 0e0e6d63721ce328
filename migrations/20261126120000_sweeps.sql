-- Sweeps: many runs of one spec that differ in some of its keys.

CREATE TABLE sweeps (
    -- A ULID, as a run's.
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at_ms BIGINT NOT NULL,
    -- Where the spec was read; its folders are relative to it.
    spec_path TEXT NOT NULL,
    spec_yaml TEXT NOT NULL,
    -- JSON: the `--set` arguments that every trial has.
    sets TEXT NOT NULL,
    -- JSON: the sweep's section, defaults filled in.
    section TEXT NOT NULL,
    -- 1 where finished runs of the same fingerprint stand for trials.
    is_needed_only BIGINT NOT NULL
);

-- A point with one seed; points are numbered in the order in which they were chosen.
CREATE TABLE sweep_trials (
    sweep_id TEXT NOT NULL REFERENCES sweeps (id) ON DELETE CASCADE,
    point BIGINT NOT NULL,
    -- Decimal: a seed may be larger than what SQLite's integers hold.
    seed TEXT NOT NULL,
    -- JSON: values by key.
    point_values TEXT NOT NULL,
    -- The epoch that it trains to before its point is judged.
    until_epoch BIGINT NOT NULL,
    -- NULL until it is started, and when its run is deleted.
    run_id TEXT REFERENCES runs (id) ON DELETE SET NULL,
    -- 1 where the run was there before.
    is_reused BIGINT NOT NULL DEFAULT 0,
    -- Why it could not be started.
    error TEXT,
    PRIMARY KEY (sweep_id, point, seed)
);

CREATE INDEX sweep_trials_by_run ON sweep_trials (run_id);
