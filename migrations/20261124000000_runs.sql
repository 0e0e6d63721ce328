-- Runs and everything recorded about them.
--
-- Times are integer milliseconds since the Unix epoch, UTC. Counts are integers. A run's own id is a ULID.
-- This file is never edited once released: the next change is a new file with a later timestamp.

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    experiment TEXT NOT NULL,
    -- queued, running, finished, failed or stopped. `crashed` is never stored: readers conclude it.
    state TEXT NOT NULL,
    -- Where the process that writes this run lives; its lock can be probed on that host alone.
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT,
    heartbeat_at_ms BIGINT NOT NULL,
    -- Equal for runs of the same spec, data, weights and device class; the group also ignores the seed.
    fingerprint TEXT,
    run_group TEXT,
    -- Why a failed run failed.
    error_message TEXT,
    error_cause TEXT,
    error_place TEXT
);

-- Lists are newest first; the id settles runs of the same millisecond.
CREATE INDEX runs_newest ON runs (created_at_ms, id);
CREATE INDEX runs_by_experiment ON runs (experiment);

-- The specs are long and only `show` wants them, so lists do not page through them.
CREATE TABLE run_specs (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    -- The text as the user wrote it, then the complete spec it resolved to.
    spec_yaml TEXT NOT NULL,
    resolved_json TEXT NOT NULL
);

-- Every change of state.
CREATE TABLE run_events (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms BIGINT NOT NULL,
    state TEXT NOT NULL
);

CREATE INDEX run_events_by_run ON run_events (run_id);

CREATE TABLE run_tags (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (run_id, tag)
);

CREATE TABLE run_environment (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, name)
);

-- Parameters. Ten thousand runs of one experiment share most of their names and values, so both are kept once.
CREATE TABLE param_names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Values are JSON text, which carries their type.
CREATE TABLE param_values (
    id INTEGER PRIMARY KEY,
    json TEXT NOT NULL UNIQUE
);

CREATE TABLE run_params (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name_id BIGINT NOT NULL REFERENCES param_names (id),
    value_id BIGINT NOT NULL REFERENCES param_values (id),
    PRIMARY KEY (run_id, name_id)
);

-- What the data turned out to be: class names by label, and the splits by content.
CREATE TABLE data_classes (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    label BIGINT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (run_id, label)
);

CREATE TABLE data_splits (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    split TEXT NOT NULL,
    n_images BIGINT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (run_id, split)
);

CREATE TABLE skipped_inputs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    split TEXT NOT NULL,
    path TEXT NOT NULL,
    reason TEXT NOT NULL
);

CREATE INDEX skipped_inputs_by_run ON skipped_inputs (run_id);

CREATE TABLE run_warnings (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    at_ms BIGINT NOT NULL,
    text TEXT NOT NULL
);

CREATE INDEX run_warnings_by_run ON run_warnings (run_id);

-- What the network turned out to be.
CREATE TABLE model_facts (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    weights_hash TEXT NOT NULL,
    n_parameters BIGINT NOT NULL,
    n_trained_parameters BIGINT NOT NULL,
    n_frozen_layers BIGINT NOT NULL,
    cut TEXT NOT NULL,
    frozen_hash TEXT NOT NULL
);

-- Hashes of the network's tensors after the last epoch; frozen_hash must equal the one in model_facts.
CREATE TABLE trained_facts (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    frozen_hash TEXT NOT NULL,
    trained_hash TEXT NOT NULL
);

-- A series is one metric of one run, either one point an epoch or one point every few steps.
-- Its summary is kept here so that lists and comparisons read no points.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- epoch or step.
    resolution TEXT NOT NULL,
    -- valid.accuracy, train.loss, …
    name TEXT NOT NULL,
    -- SQLite stores NaN as NULL. With n_points above 0 a missing last_value is therefore NaN,
    -- and missing minima, maxima and bests say that every value was.
    last_value DOUBLE PRECISION,
    min_value DOUBLE PRECISION,
    max_value DOUBLE PRECISION,
    best_value DOUBLE PRECISION,
    -- The earliest epoch that reached the best value.
    best_epoch BIGINT,
    n_points BIGINT NOT NULL,
    UNIQUE (run_id, resolution, name)
);

-- The points themselves, in blocks of up to 1024 that open with the version of their format.
CREATE TABLE point_blocks (
    series_id BIGINT NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    block BIGINT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (series_id, block)
);

-- A checkpoint's row is written in the same transaction as its epoch's points, once its files are whole on disk.
CREATE TABLE checkpoints (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    epoch BIGINT NOT NULL,
    step BIGINT NOT NULL,
    -- Relative to the run's folder.
    path TEXT NOT NULL,
    n_bytes BIGINT NOT NULL,
    manifest_hash TEXT NOT NULL,
    -- The monitored metric; missing when it was not measured or is NaN.
    monitor_value DOUBLE PRECISION,
    deleted BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (run_id, epoch)
);

CREATE TABLE artifacts (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- Relative to the run's folder.
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    n_bytes BIGINT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (run_id, path)
);
