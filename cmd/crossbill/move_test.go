package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/edge"
	"crossbill/events/pgtest"
)

// pop is an edge node with an agent of its own that reaches the platform as any does: by TLS, with the certificate that it joined
// for. The provider's server behind it counts what it gets and says nothing.
type pop struct {
	softwareNetwork
	t        *testing.T
	basePort int
	node     *edge.SoftwareNode
	got      atomic.Uint64
}

func (p *pop) startAgent(_ context.Context, on *platform.Platform, token string) error {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := edge.Join(ctx, on.EdgeURLs[0], token, p.dir); err != nil {
		cancel()
		return err
	}
	identity, err := edge.OpenIdentity(p.dir, "")
	if err != nil {
		cancel()
		return err
	}
	api, err := edge.NewAPI(identity)
	if err != nil {
		cancel()
		return err
	}
	p.node = edge.NewSoftwareNode(edge.SoftwareOptions{StateDir: p.dir, BasePort: p.basePort})
	done := make(chan error, 1)
	go func() {
		done <- edge.Run(ctx, edge.Config{Platform: api, Identity: identity, Node: p.node, StateDir: p.dir, Logger: slog.New(slog.DiscardHandler)})
	}()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
		if err := p.node.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return nil
}

// serve is the provider's server, once the agent has said where the connection is.
func (p *pop) serve() {
	p.t.Helper()
	await(p.t, "the agent has the connection", func() bool {
		var all map[string]edge.SoftwareAddresses
		content, err := os.ReadFile(filepath.Join(p.dir, "software-edge.json"))
		if err != nil || json.Unmarshal(content, &all) != nil {
			return false
		}
		for _, a := range all {
			p.addresses = a
		}
		return len(all) == 1
	})
	server, err := net.Listen("tcp", p.addresses.Target)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				n, _ := io.Copy(io.Discard, conn)
				p.got.Add(uint64(n))
			}()
		}
	}()
}

// send sends for a while, unless nothing crosses here.
func (p *pop) send(ctx context.Context) {
	conn, err := net.Dial("tcp", p.addresses.Listen)
	if err != nil {
		return
	}
	defer conn.Close()
	for range 10 {
		if _, err := io.CopyN(conn, zeroes{}, 10_000); err != nil || ctx.Err() != nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if conn.(*net.TCPConn).CloseWrite() == nil {
		io.Copy(io.Discard, conn) // until the server has it all
	}
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// A connection is moved from one node to another while traffic crosses, with an agent on each: what crossed either is metered and
// billed once, to the byte, and the node that it left has nothing of it.
func TestMoveBetweenAgents(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	on, err := platform.Start(ctx, platform.Config{DataDir: t.TempDir(), DatabaseURL: pgtest.URL(t), Listen: []string{"127.0.0.1:0"},
		EdgeListen: []string{"127.0.0.1:0"}, ReadingInterval: time.Second, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	t.Cleanup(func() {
		if err := on.Stop(); err != nil {
			t.Error(err)
		}
	})
	from, to := &pop{t: t, basePort: 25_000}, &pop{t: t, basePort: 26_000}
	from.dir, to.dir = t.TempDir(), t.TempDir()
	d := &scene{story: newStory(io.Discard), platform: on, network: from, outDir: t.TempDir()}
	must(d.stageInventory(ctx))
	must(d.stageOrder(ctx))
	must(d.awaitConnection(ctx, client.ConnectionStateTesting))
	from.serve()
	must(d.awaitConnection(ctx, client.ConnectionStateProduction))
	d.production = *d.connection.BillingFrom
	left := d.edgeNodeID

	node, _, err := client.Decode[client.EdgeNode](d.operator.CreateEdgeNode(ctx, nil, client.NewEdgeNode{
		Name: "pop-2", Metro: "Amsterdam", Facility: "Second hall", Asn: demoEdgeASN, RouterId: "192.0.2.2"}))
	must(err)
	d.edgeNodeID = node.Id
	customerPort, err := d.registerPort(ctx, d.customerID, "Harbour port 2", "software-a")
	must(err)
	providerPort, err := d.registerPort(ctx, d.providerID, "Northlight port 2", "software-z")
	must(err)
	token, _, err := client.Decode[client.JoinToken](d.operator.CreateJoinToken(ctx, node.Id, nil, client.NewJoinToken{}))
	must(err)
	must(to.startAgent(ctx, on, token.Token))

	sending, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan struct{})
	keepSending := func(p *pop) {
		for sending.Err() == nil {
			p.send(sending)
			time.Sleep(5 * time.Millisecond)
		}
		sent <- struct{}{}
	}
	go keepSending(from)
	await(t, "traffic crosses the first node", func() bool { return from.got.Load() > 0 })
	_, _, err = client.Decode[client.Connection](d.operator.MoveConnection(ctx, d.connection.Id, nil,
		client.Move{CustomerPortId: &customerPort, ProviderPortId: &providerPort, Reason: "maintenance"}))
	must(err)
	to.serve()
	go keepSending(to)
	status := func(id string) client.EdgeNodeStatus {
		t.Helper()
		s, _, err := client.Decode[client.EdgeNodeStatus](d.operator.GetEdgeNode(ctx, id))
		must(err)
		return s
	}
	await(t, "the first node is left, and traffic crosses the second", func() bool {
		s := status(left)
		return to.got.Load() > 0 && s.Connections != nil && *s.Connections == 0
	})
	must(d.awaitConnection(ctx, client.ConnectionStateProduction))
	if tags, err := from.node.List(); err != nil || len(tags) > 0 {
		t.Errorf("the node that it left has %v (%v)", tags, err)
	}
	if s := status(node.Id); *s.Connections != 1 || len(*s.Drift) > 1 { // that it is software is all that is amiss
		t.Errorf("the node that it came to has %+v", s)
	}
	stop()
	<-sent
	<-sent

	end := time.Now().Truncate(demoReadingInterval).Add(2 * demoReadingInterval).UTC()
	await(t, "all is read", func() bool {
		usage, _, err := client.Decode[client.Usage](d.customer.GetUsage(ctx, d.connection.Id, &client.GetUsageParams{}))
		must(err)
		return usage.LastTo != nil && !usage.LastTo.Before(end)
	})
	crossed := map[string]uint64{left: from.got.Load(), node.Id: to.got.Load()}
	read := map[string]uint64{}
	for after := int64(0); ; {
		page, _, err := client.Decode[client.EventPage](d.operator.ListEvents(ctx, &client.ListEventsParams{After: &after}))
		must(err)
		for _, e := range page.Items {
			if e.Type == "reading.recorded" {
				var r struct {
					EdgeNodeID string `json:"edge_node_id"`
					BytesIn    uint64 `json:"bytes_in"`
					BytesOut   uint64 `json:"bytes_out"`
				}
				must(json.Unmarshal(e.Data, &r))
				read[r.EdgeNodeID] += r.BytesIn + r.BytesOut
			}
		}
		if after = page.NextAfter; len(page.Items) == 0 {
			break
		}
	}
	for id, bytes := range crossed {
		if bytes == 0 || read[id] != bytes {
			t.Errorf("%d bytes crossed %s, %d are in its readings", bytes, id, read[id])
		}
	}
	var books demoResult
	must(d.stageBooks(ctx, end, &books))
	if want := crossed[left] + crossed[node.Id]; books.BytesBilled != want || books.Passthrough != books.Settlement {
		t.Errorf("%d bytes crossed, %d are billed; passthrough %s, settlement %s", want, books.BytesBilled, books.Passthrough, books.Settlement)
	}
	t.Logf("%d bytes crossed the first node, %d the second, %d are billed", crossed[left], crossed[node.Id], books.BytesBilled)
}
