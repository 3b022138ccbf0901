//go:build !linux

package postgres

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent does nothing: this system has no such thing. The next start sweeps.
func dieWithParent(*syscall.SysProcAttr) {}

// leftOver finds an earlier server by the number in its postmaster.pid, if that is still a postgres.
func leftOver(cluster string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return nil, nil // it was being written when the machine stopped
	}
	out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil || filepath.Base(string(bytes.TrimSpace(out))) != "postgres" {
		return nil, nil
	}
	return []int{pid}, nil
}

// onMainThread is not known here, and nothing depends on it: there is neither a signal nor a namespace to tie to a thread.
func onMainThread() bool { return false }

// reach does nothing: there are no mount namespaces to work with, and the server says itself what it can't enter.
func reach(dataDir, binaries) error { return nil }
