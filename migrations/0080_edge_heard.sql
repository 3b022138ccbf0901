-- When each edge node's agent was last heard of, and which revision of its desired state it said it acts on.
--
-- It is no read model and is derived from nothing: it says how the machinery is at the moment, for operators, and nothing
-- is decided by it. Lost, it is there again with the agents' next requests, within a minute.

-- +goose Up

CREATE TABLE edge_heard (
    edge_node_id text COLLATE "C" PRIMARY KEY,
    heard_at     timestamptz NOT NULL,
    kind         text COLLATE "C", -- 'ebpf' or 'software', as its last report said
    revision     bigint            -- log position; null before its first report
);

-- +goose Down

DROP TABLE edge_heard;
