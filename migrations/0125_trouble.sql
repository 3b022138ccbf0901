-- What operators look connections up by: those of which a step is tried no more until a person says how to go on. They are
-- few, and soon none.

-- +goose Up

CREATE INDEX read_connections_trouble ON read_connections (position) WHERE doc -> 'trouble' ->> 'state' = 'operator';

-- +goose Down

DROP INDEX read_connections_trouble;
