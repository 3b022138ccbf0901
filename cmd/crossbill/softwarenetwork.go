package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/edge"
)

// softwareNetwork is the demo's network where the lab can't run: an agent with the software edge, a TCP server as the
// provider's network and a TCP client as the customer's. What is on the wire is counted at the client's socket.
type softwareNetwork struct {
	dir   string
	log   io.Writer
	agent *exec.Cmd

	addresses edge.SoftwareAddresses
	server    net.Listener
	wire      atomic.Uint64
}

const softwareTimeout = 10 * time.Second

func newSoftwareNetwork(dir string, log io.Writer) (demoNetwork, error) {
	return &softwareNetwork{dir: dir, log: log}, os.MkdirAll(dir, 0o755)
}

func (n *softwareNetwork) edge() string                        { return string(edge.Software) }
func (n *softwareNetwork) bgp(context.Context) (string, error) { return "none", nil }
func (n *softwareNetwork) learned(context.Context) (customer, provider []netip.Prefix, _ error) {
	return nil, nil, nil
}
func (n *softwareNetwork) ports() (customer, provider string) { return "software-a", "software-z" }
func (n *softwareNetwork) listenOn() string                   { return "127.0.0.1" }

func (n *softwareNetwork) startAgent(ctx context.Context, p *platform.Platform, token string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := joinAgent(exec.CommandContext(ctx, self, "edge", "join", "--platform", p.EdgeURLs[0], "--token-file", "-", "--state-dir", n.dir), token); err != nil {
		return err
	}
	n.agent = exec.CommandContext(ctx, self, "edge", "--software", "--state-dir", n.dir)
	return startAgent(n.agent, n.log)
}

// configureRouter starts the provider's server once the edge has said where; the customer's side has nothing to set up.
func (n *softwareNetwork) configureRouter(ctx context.Context, side string, _ client.RouterAttachment) error {
	if side == "a" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, softwareTimeout)
	defer cancel()
	for n.addresses.Listen == "" {
		content, err := os.ReadFile(filepath.Join(n.dir, "software-edge.json"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		var all map[string]edge.SoftwareAddresses
		if json.Unmarshal(content, &all) == nil {
			for _, a := range all {
				n.addresses = a
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the software edge did not say where the connection is: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	var err error
	if n.server, err = net.Listen("tcp", n.addresses.Target); err != nil {
		return err
	}
	go func() {
		for {
			conn, err := n.server.Accept()
			if err != nil {
				return
			}
			go n.answer(conn)
		}
	}()
	return nil
}

// answer reads what the client sends and answers with how much it was.
func (n *softwareNetwork) answer(conn net.Conn) {
	defer conn.Close()
	got, _ := io.Copy(io.Discard, conn)
	fmt.Fprintln(conn, got)
}

// send moves bytes across and returns how many the far side says it got.
func (n *softwareNetwork) send(bytes int64) (int64, error) {
	conn, err := net.DialTimeout("tcp", n.addresses.Listen, softwareTimeout)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(softwareTimeout))
	sent, err := io.CopyN(conn, zeroes{}, bytes)
	n.wire.Add(uint64(sent))
	if err != nil {
		return 0, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(conn)
	n.wire.Add(uint64(len(answer)))
	if err != nil {
		return 0, err
	}
	var got int64
	_, err = fmt.Sscan(string(answer), &got)
	return got, err
}

// zeroes is an endless source.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { return len(b), nil }

func (n *softwareNetwork) ping(context.Context) (bool, error) {
	if n.addresses.Listen == "" {
		return false, nil // there is no way across yet
	}
	got, err := n.send(64)
	return err == nil && got == 64, nil
}

func (n *softwareNetwork) transfer(_ context.Context, bytes int64) (int64, error) {
	return n.send(bytes)
}

func (n *softwareNetwork) wireBytes() (uint64, error) { return n.wire.Load(), nil }

func (n *softwareNetwork) close() error {
	if n.server != nil {
		n.server.Close()
	}
	stopAgent(n.agent)
	return nil
}

// joinAgent runs a join that reads the token from standard input.
func joinAgent(join *exec.Cmd, token string) error {
	join.Env = append(os.Environ(), asCommand+"=1")
	join.Stdin = strings.NewReader(token)
	if out, err := join.CombinedOutput(); err != nil {
		return fmt.Errorf("join as the edge node: %w: %s", err, out)
	}
	return nil
}

// startAgent starts an agent's process with an orderly end.
func startAgent(agent *exec.Cmd, log io.Writer) error {
	agent.Env = append(os.Environ(), asCommand+"=1")
	agent.Stdout, agent.Stderr = log, log
	agent.Cancel = func() error { return agent.Process.Signal(syscall.SIGTERM) }
	agent.WaitDelay = agentStop
	return agent.Start()
}

// agentStop is how long an agent has to end by itself.
const agentStop = 5 * time.Second

// stopAgent ends an agent that was started. Its exit status says nothing that the demo has not seen.
func stopAgent(agent *exec.Cmd) {
	if agent == nil || agent.Process == nil {
		return
	}
	agent.Process.Signal(syscall.SIGTERM)
	agent.Wait()
}
