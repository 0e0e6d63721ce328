-- A sweep's points may be run on several splits of the same images; a key of a trial has the split's seed.
CREATE TABLE sweep_trials_with_splits (
    sweep_id TEXT NOT NULL REFERENCES sweeps (id) ON DELETE CASCADE,
    point BIGINT NOT NULL,
    -- Decimal; empty where the spec's own split is the only one.
    split_seed TEXT NOT NULL,
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
    PRIMARY KEY (sweep_id, point, split_seed, seed)
);

INSERT INTO sweep_trials_with_splits
SELECT sweep_id, point, '', seed, point_values, until_epoch, run_id, is_reused, error FROM sweep_trials;

DROP TABLE sweep_trials;

ALTER TABLE sweep_trials_with_splits RENAME TO sweep_trials;

CREATE INDEX sweep_trials_by_run ON sweep_trials (run_id);

-- Every time that test images were measured: what was looked at often is no test any more.
CREATE TABLE test_looks (
    id INTEGER PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    -- NULL when the run is deleted: the look remains.
    run_id TEXT REFERENCES runs (id) ON DELETE SET NULL,
    -- The hash of the images that were measured, as in data_splits.
    split_hash TEXT NOT NULL,
    -- run, sweep or evaluate: what measured them.
    looked_by TEXT NOT NULL,
    -- The sweep's point whose runs were measured, where it was a sweep that did so.
    sweep_id TEXT REFERENCES sweeps (id) ON DELETE SET NULL,
    point BIGINT
);

CREATE INDEX test_looks_by_split ON test_looks (split_hash);

CREATE INDEX test_looks_by_run ON test_looks (run_id);

-- Earlier runs looked once at least; trials of sweeps did so one by one.
INSERT INTO test_looks (at_ms, run_id, split_hash, looked_by, sweep_id, point)
SELECT runs.heartbeat_at_ms, runs.id, data_splits.hash, 'run', sweep_trials.sweep_id, sweep_trials.point
FROM series
JOIN runs ON runs.id = series.run_id
JOIN data_splits ON data_splits.run_id = runs.id AND data_splits.split = 'test'
LEFT JOIN sweep_trials ON sweep_trials.run_id = runs.id AND sweep_trials.is_reused = 0
WHERE series.name = 'test.loss' AND series.resolution = 'epoch' AND series.n_points > 0;
