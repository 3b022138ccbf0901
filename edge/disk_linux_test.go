package edge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// TestFullDisk fills the disk under the state directory, by what is spooled while the platform is away. The agent ends, and
// says what to look at; those that are started after it end too; once there is room the next one goes on, and every byte that
// crossed in all that time is read.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatalf("mount a small disk, as root: %v", err)
	}
	t.Cleanup(func() { // after the agents, which are stopped by what is registered later
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	p, n := newMemoryPlatform(tick), newMemoryNode()
	c := desiredConnection(1, Production)
	p.want(c)
	stop := runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "open", isOpen)
	n.traffic(1000)
	stop()

	p.set(func(p *memoryPlatform) { p.down = true })
	fill := filepath.Join(dir, "ballast") // so that a few readings are all that fits
	ballast(t, fill)
	run := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(tick / 4):
					n.traffic(1234)
				}
			}
		}()
		return Run(ctx, Config{Platform: p, Node: n, StateDir: dir, Logger: testLogger(t)})
	}
	for range 3 {
		var refusal *domain.Error
		if err := run(); !errors.As(err, &refusal) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(refusal.Hint, "disk") {
			t.Fatalf("on a full disk the agent ends with %v", err)
		}
		n.traffic(77) // with no agent there
	}

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	p.set(func(p *memoryPlatform) { p.down = false })
	runAgent(t, p, n, dir)
	n.traffic(5)
	awaitBytes(t, p, n, c.ID)
	p.check(t)
}

// ballast writes a file until the disk has no room for a byte more, and leaves it a page.
func ballast(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page := make([]byte, os.Getpagesize())
	var size int64
	for err == nil {
		var n int
		n, err = file.Write(page)
		size += int64(n)
	}
	if !errors.Is(err, unix.ENOSPC) || size < 2*int64(len(page)) {
		t.Fatalf("the disk took %d bytes (%v)", size, err)
	}
	if err := file.Truncate(size - int64(len(page))); err != nil {
		t.Fatal(err)
	}
}
