-- What recording a run cost its training, and what was lost on the way. Written when the run ends and added to when it
-- goes on and ends again. System metrics need nothing new: they are series whose resolution is system.

CREATE TABLE recording_costs (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    -- Events for which the training waited because the queue to the store was full.
    n_waits BIGINT NOT NULL,
    -- Microseconds.
    waited_us BIGINT NOT NULL,
    longest_wait_us BIGINT NOT NULL,
    -- Looks at the machine that were dropped because their queue was full.
    n_system_dropped BIGINT NOT NULL
);
