-- What proves that frozen tensors stayed frozen: every tensor's hash before the first step and after the last.

CREATE TABLE tensor_hashes (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- The tensor's place in the network.
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    -- 1 where it must stay as it is.
    is_frozen BIGINT NOT NULL,
    before_hash TEXT NOT NULL,
    -- NULL until the last epoch is done.
    after_hash TEXT,
    PRIMARY KEY (run_id, position)
);

-- Hashes of what the frozen layers give for a made-up image; no row where there are no frozen layers.
CREATE TABLE probe_hashes (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    before_hash TEXT NOT NULL,
    after_hash TEXT
);
