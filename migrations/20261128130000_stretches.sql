-- What the epochs of a run were trained under, and which rule its fingerprint was made by.

-- Epochs that were trained while as many were asked for. A run has one row, and another wherever more or fewer epochs were
-- asked for when it went on. A run from before this table has none until it goes on.
CREATE TABLE run_stretches (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- Epochs before it; it ends where the next row begins.
    after_epoch BIGINT NOT NULL,
    -- Epochs that were asked for, those before it included.
    epochs BIGINT NOT NULL,
    -- JSON: the schedule of the learning rate.
    schedule TEXT NOT NULL,
    -- Epochs before the schedule began: 0, or where it was started over.
    schedule_after BIGINT NOT NULL,
    -- 1 where early stopping had ended the training here, and it went on all the same.
    is_past_early_stop BIGINT NOT NULL,
    PRIMARY KEY (run_id, after_epoch)
);

-- The rule that runs.fingerprint and runs.run_group were made by. Version 1 hashed every key, so that each new key made
-- other runs of the old ones; they are made anew when they are looked for.
ALTER TABLE runs ADD COLUMN fingerprint_version BIGINT NOT NULL DEFAULT 1;

CREATE INDEX runs_by_fingerprint ON runs (fingerprint);
