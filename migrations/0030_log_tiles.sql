-- Tiles: the inner hashes of the log's Merkle tree, kept so that a proof reads a few rows and not the log.
--
-- A tile of level l holds 256 consecutive hashes of the tree's level 8·l, as C2SP tlog-tiles cuts it (the leaf hashes are
-- level 0). Only complete tiles are kept: they never change, so rows are written once and never updated. What is not
-- complete yet is read from the level below: from root here, or from events.leaf_hash at the bottom. The table is derived:
-- it may be emptied (TRUNCATE) and the next proof fills it again. No append writes to it.

-- +goose Up

CREATE TABLE log_tiles (
    index  bigint NOT NULL,   -- in its level, from 0
    level  smallint NOT NULL,
    root   bytea NOT NULL,    -- of the subtree under the tile: its hash in the tile above
    hashes bytea NOT NULL,    -- 256 of 32 bytes
    PRIMARY KEY (level, index)
);

-- Hashes don't compress. Out of line, they leave narrow rows, so that 255 roots in a row are a page or two.
ALTER TABLE log_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- +goose Down

DROP TABLE log_tiles;
