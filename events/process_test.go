package events

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
)

// childEnv makes this test binary another process of the log: it names what it is to do, with childURL the database and
// with childDir a directory to write down in what it did.
const (
	childEnv = "CROSSBILL_EVENTS_TEST_CHILD"
	childURL = "CROSSBILL_EVENTS_TEST_URL"
	childDir = "CROSSBILL_EVENTS_TEST_DIR"
)

// children are what such a process can do. It ends with its work or, if that takes an end, when its input is closed.
var children = map[string]func(l *Log, dir string, end <-chan struct{}) error{}

func TestMain(m *testing.M) {
	work := children[os.Getenv(childEnv)]
	if work == nil {
		os.Exit(m.Run())
	}
	if err := runChild(work); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func runChild(work func(*Log, string, <-chan struct{}) error) error {
	pool, err := pgxpool.New(context.Background(), os.Getenv(childURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	codec, err := NewCodec([]domain.Event{noted{}})
	if err != nil {
		return err
	}
	l, err := Open(context.Background(), pool, codec, Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	end := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(end) }()
	return work(l, os.Getenv(childDir), end)
}

// child is a process of the log that a test has started.
type child struct {
	*exec.Cmd
	t      *testing.T
	input  io.Closer
	stderr bytes.Buffer
	ended  bool
}

// startChild starts a process. It is killed at the test's end if it is still there.
func startChild(t *testing.T, work, url, dir string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0]), t: t}
	c.Env = append(os.Environ(), childEnv+"="+work, childURL+"="+url, childDir+"="+dir)
	c.Stderr = &c.stderr
	var err error
	if c.input, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

// kill is SIGKILL: the process gets to do nothing more.
func (c *child) kill() {
	if !c.ended {
		c.ended = true
		c.Process.Kill()
		c.Wait()
	}
}

// finish lets the process come to its end, which must be a good one.
func (c *child) finish() {
	c.t.Helper()
	c.ended = true
	c.input.Close()
	if err := c.Wait(); err != nil {
		c.t.Errorf("a process ended with %v and said:\n%s", err, c.stderr.Bytes())
	}
}
