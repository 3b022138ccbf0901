package main

import (
	"context"
	"net/netip"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
)

// demoNetwork is the edge node with a router on each side: the lab where the machine allows it, else the software edge.
type demoNetwork interface {
	edge() string                            // "ebpf" or "software"
	bgp(ctx context.Context) (string, error) // "established" if both routers say so; "none" where there is none
	// learned returns what each router has learned by BGP from the other's side; nil where there is no BGP.
	learned(ctx context.Context) (customer, provider []netip.Prefix, _ error)
	ports() (customer, provider string)                                       // interface names on the node
	listenOn() string                                                         // address the platform must listen on for the agent, without port
	startAgent(ctx context.Context, p *platform.Platform, token string) error // a join token
	configureRouter(ctx context.Context, side string, a client.RouterAttachment) error
	ping(ctx context.Context) (crossed bool, _ error) // from the customer's network to the provider's
	transfer(ctx context.Context, bytes int64) (moved int64, _ error)
	wireBytes() (uint64, error) // both directions of the customer's port, from the kernel's counters
	close() error
}
