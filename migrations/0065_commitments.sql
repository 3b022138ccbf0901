-- What principals have committed their organisations to, so that a limit on a month can be held to.
--
-- A row is written, and deleted, in the transaction of the log append that places or approves the order, or ends it without
-- a connection (provisioning/commitments.go). Appends hold the log's head row and therefore follow one another: a sum seen
-- inside one stays true until it commits, so fifty orders at once pass a limit exactly as often as one after the other.
--
-- Derived: it is the commitments in order.placed and order.approved events whose order has not been rejected, failed or
-- cancelled since.

-- +goose Up

CREATE TABLE commitments (
    order_id        text COLLATE "C" PRIMARY KEY,
    organisation_id text COLLATE "C" NOT NULL,  -- the customer
    principal_kind  text COLLATE "C" NOT NULL,
    principal_id    text COLLATE "C" NOT NULL,
    month           text COLLATE "C" NOT NULL,  -- in UTC, as 2006-01
    currency        text COLLATE "C" NOT NULL,
    minor           bigint NOT NULL             -- the quote's total in minor units
);
CREATE INDEX commitments_principal ON commitments (organisation_id, principal_kind, principal_id, month, currency) INCLUDE (minor);

-- +goose Down

DROP TABLE commitments;
