-- The bounds of a fee and what is free of it. Fee schedules of before had none, and have no value here.

-- +goose Up

ALTER TABLE read_fee_schedules ADD COLUMN terms json;

-- +goose Down

ALTER TABLE read_fee_schedules DROP COLUMN terms;
