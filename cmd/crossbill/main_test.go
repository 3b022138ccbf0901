package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crossbill/edge/lab"
)

// TestMain lets the test's binary be the program itself: the demo starts its agent as a process of its own executable.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command runs the program in a process of its own.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func needLab(t *testing.T) {
	t.Helper()
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
}

// checkDemo holds a demo's output to what it promises.
func checkDemo(t *testing.T, output, outDir, edge, bgp string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(output), "\n")
	var r demoResult
	decoder := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("the last line is not the result: %v\n%s", err, output)
	}
	if r.Edge != edge || r.BGP != bgp || !r.OK || !r.LogVerified {
		t.Errorf("result %+v", r)
	}
	if r.BytesWire < 50_000_000 || r.BytesWire != r.BytesMetered || r.BytesMetered != r.BytesBilled {
		t.Errorf("bytes on the wire %d, metered %d, billed %d", r.BytesWire, r.BytesMetered, r.BytesBilled)
	}
	if r.Passthrough != r.Settlement || r.Passthrough == "0.00" || r.Fee == "0.00" || r.Currency != "USD" || r.Events != r.LogSize || len(r.LogRoot) != 64 {
		t.Errorf("result %+v", r)
	}
	for _, name := range []string{"invoice.json", "settlement.json", "invoices.csv", "settlements.csv", "checkpoint.txt"} {
		if info, err := os.Stat(filepath.Join(outDir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leftovers lists what a demo of the directory must not leave on the machine.
func leftovers(t *testing.T, dir string) (found []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if content, err := os.ReadFile(p); err == nil && bytes.Contains(content, []byte(dir)) {
			found = append(found, p+" "+string(bytes.ReplaceAll(content, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// labs lists the demo's namespaces and pins on the machine.
func labs(t *testing.T) (found []string) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/" + demoLabPrefix + "*", "/sys/fs/bpf/*/" + demoLabPrefix + "*", "/sys/fs/bpf/" + demoLabPrefix + "*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	return found
}

// TestDemo is the end-to-end test: the demo, on the real edge, then again after the first was killed in production. It is
// one test because it counts what is left on the machine.
func TestDemo(t *testing.T) {
	needLab(t)
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo") // closed to the account that runs PostgreSQL, as directories under /root are
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()

	victim := command(ctx, "demo", "--out", dir)
	output, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	seen := awaitLine(output, "in production since")
	if err := victim.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	victim.Wait()
	if !seen {
		t.Fatal("the demo never came to production")
	}

	var out, errs bytes.Buffer
	second := command(ctx, "demo", "--out", dir)
	second.Stdout, second.Stderr = &out, &errs
	if err := second.Run(); err != nil {
		t.Fatalf("the demo after a killed one: %v\n%s%s", err, &out, &errs)
	}
	checkDemo(t, out.String(), dir, "ebpf", "established")
	if !strings.Contains(out.String(), "removed what the dead run") {
		t.Error("the second run found nothing of the killed first to remove")
	}
	if found := append(leftovers(t, dir), labs(t)...); len(found) > 0 {
		t.Errorf("left over:\n%s", strings.Join(found, "\n"))
	}
}

func awaitLine(r io.Reader, text string) bool {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if strings.Contains(lines.Text(), text) {
			return true
		}
	}
	return false
}

// TestDemoOnSoftwareEdge is the demo where there is no root and no Linux. It is no evidence for the real edge.
func TestDemoOnSoftwareEdge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--software", "--out", dir}, &out, &errs); code != 0 {
		t.Fatalf("exit status %d\n%s%s", code, &out, &errs)
	}
	checkDemo(t, out.String(), dir, "software", "none")
	if !strings.Contains(out.String(), "software edge") {
		t.Error("the demo does not say that its edge is software")
	}
	if found := leftovers(t, dir); len(found) > 0 {
		t.Errorf("left over:\n%s", strings.Join(found, "\n"))
	}
}

func TestServeRefusesWhatItCantUse(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:notaport"}, &out, &errs); code != 6 {
		t.Errorf("exit status %d", code)
	}
	if !strings.Contains(errs.String(), "choose another with --listen") {
		t.Errorf("no hint: %s", &errs)
	}
}
