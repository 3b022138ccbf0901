package bgp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// called is a router by hand whom the node has called, and which has read the node's OPEN.
func called(t *testing.T) (s *Speaker, r *router, conn net.Conn) {
	t.Helper()
	needsRouters(t)
	r = newRouter(t)
	var listener net.Listener
	err := r.inside(func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(r.peer, DefaultPort).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s = startSpeaker(t, Options{ConnectRetry: time.Hour})
	ensure(t, s, Connection{Tag: 1, A: session(r, 65001), Z: session(newRouter(t), 65002)})
	if conn, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	awaitMessage(t, conn, messageOpen)
	return s, r, conn
}

func awaitMessage(t *testing.T, conn net.Conn, want byte) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if kind, body, err := receive(conn); err != nil || kind != want {
		t.Fatalf("received a message of type %d %v, %v; want type %d", kind, body, err, want)
	}
}

// quiet fails the test if the node says something on a connection, or closes it.
func quiet(t *testing.T, name string, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if kind, body, err := receive(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("on %s: a message of type %d %v, %v", name, kind, body, err)
	}
}

func awaitClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if kind, body, err := receive(conn); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("not closed without a word: a message of type %d %v, %v", kind, body, err)
	}
}

// Of two identifiers one is below the node's and one above.
var low, high = netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("192.0.2.2")

// crossing has the router call the node too, with an identifier.
func crossing(t *testing.T, r *router, id netip.Addr) net.Conn {
	t.Helper()
	conn, err := r.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := sendOpen(conn, id, true, 90); err != nil {
		t.Fatal(err)
	}
	return conn
}

// The node's first KEEPALIVE answers the router's, or comes after a while to one that waits for the node's.
func TestFirstKeepalive(t *testing.T) {
	t.Run("the router waits for the node's", func(t *testing.T) {
		t.Parallel()
		s, r, conn := called(t)
		sent := time.Now()
		if _, err := conn.Write(openMessage(r.peer, true, 90)); err != nil {
			t.Fatal(err)
		}
		awaitMessage(t, conn, messageKeepalive)
		if waited := time.Since(sent); waited < agreeTimeout {
			t.Errorf("the node waited %v for the router's, want %v", waited, agreeTimeout)
		}
		if _, err := conn.Write(message(messageKeepalive)); err != nil {
			t.Fatal(err)
		}
		awaitState(t, s, 1, A, Established)
	})
	t.Run("the router does not", func(t *testing.T) {
		t.Parallel()
		var took time.Duration
		for range 5 { // as the machine may have been busy with something else
			_, r, conn := called(t)
			sent := time.Now()
			if err := sendOpen(conn, r.peer, true, 90); err != nil {
				t.Fatal(err)
			}
			awaitMessage(t, conn, messageKeepalive)
			if took = time.Since(sent); took < agreeTimeout/2 {
				return
			}
		}
		t.Errorf("the node answered after %v", took)
	})
}

// The router decides between calls that cross if its identifier is the higher one, and has all the time for it.
func TestCallsCross(t *testing.T) {
	t.Run("the router closes the node's", func(t *testing.T) {
		t.Parallel()
		var waited time.Duration
		for range 3 { // as the machine may have been busy with something else
			s, r, nodes := called(t)
			routers := crossing(t, r, high)
			quiet(t, "the router's call", routers)
			quiet(t, "the node's call", nodes)
			closed := time.Now()
			_, _ = nodes.Write(message(messageNotification, 6, 7))
			nodes.Close()
			awaitMessage(t, routers, messageOpen)
			waited = time.Since(closed)
			awaitMessage(t, routers, messageKeepalive)
			awaitState(t, s, 1, A, Established)
			if waited < openTimeout/2 {
				return
			}
		}
		t.Errorf("the node answered after %v", waited)
	})
	t.Run("the router takes the node's", func(t *testing.T) {
		t.Parallel()
		s, r, nodes := called(t)
		routers := crossing(t, r, high)
		quiet(t, "the router's call", routers)
		if err := sendOpen(nodes, high, true, 90); err != nil {
			t.Fatal(err)
		}
		awaitMessage(t, nodes, messageKeepalive)
		awaitClosed(t, routers)
		awaitState(t, s, 1, A, Established)
		awaitMessage(t, nodes, messageUpdate)
	})
	t.Run("the router never looks at the node's", func(t *testing.T) {
		t.Parallel()
		s, r, nodes := called(t)
		began := time.Now()
		routers := crossing(t, r, high)
		awaitMessage(t, routers, messageOpen)
		if waited := time.Since(began); waited < openTimeout {
			t.Errorf("the node gave its own call up after %v", waited)
		}
		awaitMessage(t, routers, messageKeepalive)
		awaitClosed(t, nodes)
		awaitState(t, s, 1, A, Established)
	})
	t.Run("the node's identifier is the higher one", func(t *testing.T) {
		t.Parallel()
		s, r, nodes := called(t)
		awaitClosed(t, crossing(t, r, low))
		if err := sendOpen(nodes, low, true, 90); err != nil {
			t.Fatal(err)
		}
		awaitMessage(t, nodes, messageKeepalive)
		awaitState(t, s, 1, A, Established)
	})
}
