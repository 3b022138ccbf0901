package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"crossbill/api/client"
	"crossbill/cmd/internal/bench"
	"crossbill/provisioning"
)

// order asks for a quote and places an order from it, from 32 clients, until the job of every order's saga is in the queue.
// Beside it stands how many jobs a second River itself takes, from as many callers, one in a transaction. An order is
// three requests' worth of events and one job, so nothing is asked of the ratio: it says what an order costs in jobs.
func order(ctx context.Context, r *run) ([]bench.Figure, error) {
	n, err := openNode(ctx, r, "orders")
	if err != nil {
		return nil, err
	}
	defer n.close()
	m, err := n.openMarket(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.publish(ctx, m, 1); err != nil {
		return nil, err
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	customer, err := client.New(n.server.URL, m.customerKey, client.WithHTTPClient(httpClient))
	if err != nil {
		return nil, err
	}
	found, _, err := client.Decode[client.ListingPage](customer.SearchListings(ctx, nil))
	if err != nil {
		return nil, err
	}
	if len(found.Items) != 1 {
		return nil, fmt.Errorf("order: there are %d listings", len(found.Items))
	}
	plain, err := river.NewClient(riverpgxv5.New(n.pool), &river.Config{})
	if err != nil {
		return nil, err
	}
	jobs := func() (count int, err error) {
		err = n.pool.QueryRow(ctx, `SELECT count(DISTINCT args ->> 'order_id') FROM river_job WHERE args ? 'order_id'`).Scan(&count)
		return count, err
	}
	key := 0
	f, err := bench.Alternate(bench.Figure{Bench: "order", Unit: "orders/s"}, r.rounds, func() (float64, error) {
		before, err := jobs()
		if err != nil {
			return 0, err
		}
		key++
		begun := time.Now()
		err = together(clients, func(worker int) error {
			for i := worker; i < r.orders; i += clients {
				if err := m.order(ctx, customer, found.Items[0].Id, fmt.Sprintf("%d-%d", key, i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if err := n.caughtUp(ctx); err != nil {
			return 0, err
		}
		rate := bench.PerSecond(r.orders, begun)
		after, err := jobs()
		if err == nil && after-before != r.orders {
			err = fmt.Errorf("%d orders started %d sagas", r.orders, after-before)
		}
		return rate, err
	}, func() (float64, error) {
		begun := time.Now()
		err := together(clients, func(worker int) error {
			for i := worker; i < r.orders; i += clients {
				err := pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) error {
					_, err := plain.InsertTx(ctx, tx, provisioning.AdvanceArgs{ConnectionID: "con_x", Cause: "bench"}, nil)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		return bench.PerSecond(r.orders, begun), err
	})
	return []bench.Figure{f}, err
}

// order quotes and places one.
func (m market) order(ctx context.Context, customer *client.Client, listingID, key string) error {
	quoteKey, orderKey := "quote-"+key, "order-"+key
	quoted, _, err := client.Decode[client.Quote](customer.CreateQuote(ctx, &client.CreateQuoteParams{IdempotencyKey: &quoteKey},
		client.NewQuote{ListingId: listingID, BandwidthMbps: 100}))
	if err != nil {
		return err
	}
	_, _, err = client.Decode[client.Order](customer.PlaceOrder(ctx, &client.PlaceOrderParams{IdempotencyKey: &orderKey}, client.NewOrder{
		QuoteId: quoted.Id, QuoteHash: quoted.Hash, PortId: m.customerPort,
		Bgp: client.BGP{ASN: 65010, Prefixes: []string{"198.51.100.0/24"}},
	}))
	return err
}
